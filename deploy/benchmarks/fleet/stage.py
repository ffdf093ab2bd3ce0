"""The control plane that the fleet speaks to: real services, without one host of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from cloud import shell
from cloud.broker import broker_user, permissions, topic_permission
from deploy import broker, control, postgres
from deploy.cloud import Cloud
from deploy.state import CHECKOUT, Instance
from deploy.steps import Steps

_SECONDS = 120.0
PROGRAMS = (control.WEB, control.WORKER, control.BEAT)


@dataclass(frozen=True)
class Stage:
    """`password` is that of every played host, whose broker users differ by name only."""

    cloud: Cloud
    password: str
    inventory: dict[str, Any]

    @property
    def instance(self) -> Instance:
        return self.cloud.instance

    def url_of(self, host: str) -> str:
        port = self.instance.ports.broker
        return f"amqp://{broker_user(host)}:{self.password}@127.0.0.1:{port}/{broker.VHOST}"

    def run(self, *arguments: str) -> Any:
        return _inventory(self.instance, arguments)


def set_up(instance: Instance, steps: Steps, *, hosts: int, vms: int, open_hosts: int) -> Stage:
    """PostgreSQL that counts statements, RabbitMQ with a user for each host, web, worker, beat."""
    cloud = Cloud(instance, hosts=0)
    with steps.step("PostgreSQL and RabbitMQ"):
        cloud.prepare()
        cloud.start_broker()
        _start_postgres(cloud)
        cloud.manage(
            [["migrate", "--verbosity", "0"], ["collectstatic", "--noinput", "--verbosity", "0"],
             ["catalogue"]]
        )  # fmt: skip
        cloud.wait_for_broker()
    with steps.step(f"Inventory of {hosts} hosts with {vms} servers"):
        inventory = _inventory(instance, ["fill", str(hosts), str(vms), str(open_hosts)])
    password = secrets.token_urlsafe(16)
    with steps.step("Broker users, web, worker, beat"):
        names = [host["name"] for host in inventory["hosts"]]
        _admit(instance, names, password)
        cloud.manage([["broker_setup"]])
        programs = [
            program
            for program in control.programs(instance, cloud.release)
            if program.name in PROGRAMS
        ]
        cloud.supervisor.apply(programs)
        cloud.supervisor.start(*PROGRAMS)
        cloud.supervisor.wait(control.WEB, lambda: control.web_ready(instance), seconds=_SECONDS)
    return Stage(cloud, password, inventory)


def _start_postgres(cloud: Cloud) -> None:
    """With the extension that counts every statement, BEGIN and COMMIT among them."""
    instance = cloud.instance
    postgres.prepare(instance)
    program = postgres.program(instance)
    options = ["shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track=top"]
    counting = [word for option in options for word in ("-c", option)]
    cloud.supervisor.apply([replace(program, argv=[*program.argv, *counting])])
    cloud.supervisor.start(postgres.NAME)
    cloud.supervisor.wait(postgres.NAME, lambda: postgres.ready(instance), seconds=_SECONDS)


def _inventory(instance: Instance, arguments: Sequence[str]) -> Any:
    result = shell.run(
        [sys.executable, "-m", "deploy.benchmarks.fleet.inventory", *arguments],
        timeout=300,
        env={
            **control.environment(instance),
            "CUMULET_LOG_LEVEL": "WARNING",
            "PYTHONPATH": str(CHECKOUT),
        },
        cwd=CHECKOUT,
    )
    return json.loads(result.stdout)


def _admit(instance: Instance, hosts: Sequence[str], password: str) -> None:
    """What `host_add` gives each host, in one request."""
    salt = os.urandom(4)
    digest = hashlib.sha256(salt + password.encode()).digest()
    users = [
        {
            "name": broker_user(host),
            "password_hash": base64.b64encode(salt + digest).decode(),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": "",
        }
        for host in hosts
    ]
    allowed = [
        {"user": broker_user(host), "vhost": broker.VHOST, **permissions(host)} for host in hosts
    ]
    keys = [
        {"user": broker_user(host), "vhost": broker.VHOST, **topic_permission(host)}
        for host in hosts
    ]
    answer = httpx.post(
        f"{broker.api_url(instance)}/api/definitions",
        json={"users": users, "permissions": allowed, "topic_permissions": keys},
        timeout=120,
    )
    answer.raise_for_status()
