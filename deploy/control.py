"""The control plane's processes and commands: web, worker, beat, Flower, manage.py.

Used by `deploy.cloud`. Everything here runs from a release as an unprivileged user; what
differs between clouds is in the environment, so that no password shows in a process list.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import httpx

from cloud import shell
from cloud.errors import CumuletError
from deploy import accounts, broker, postgres, sites
from deploy.state import Instance
from deploy.supervise import SYSTEM_PATH, Program, Supervisor

WEB, WORKER, BEAT, FLOWER = "web", "control", "beat", "flower"
ADMIN, FLOWER_USER = "admin", "flower"
# Settings that deploy's commands take over from their own environment.
_TUNABLE = (
    "CUMULET_API_REQUESTS_PER_HOUR",
    "CUMULET_CPU_OVERCOMMIT",
    "CUMULET_LOG_LEVEL",
    "CUMULET_OTLP_ENDPOINT",
)


class CommandRefused(CumuletError):
    """A management command failed."""

    code: ClassVar[str] = "management_command_failed"


def prepare(instance: Instance) -> None:
    """Directories of the control user; bundles of lab hosts lie there until an agent reads them."""
    home = accounts.own(_home(instance), accounts.CONTROL)
    accounts.own(instance.static, accounts.CONTROL)
    accounts.own(home / "bundles", accounts.CONTROL)
    accounts.own(_metrics(instance), accounts.CONTROL)


def environment(instance: Instance) -> dict[str, str]:
    """What cloud/settings.py reads."""
    site = sites.of(instance)
    return {
        "DJANGO_SETTINGS_MODULE": "cloud.settings",
        "CUMULET_SECRET_KEY": instance.passwords.secret_key,
        "CUMULET_DATABASE_URL": postgres.url(instance),
        "CUMULET_BROKER_URL": broker.url(instance),
        "CUMULET_BROKER_API_URL": broker.api_url(instance),
        "CUMULET_HOST_BROKER_URL": f"amqp://{site.broker}/{broker.VHOST}",
        "CUMULET_PUBLIC_URL": instance.web_url,
        "CUMULET_FLOWER_URL": instance.flower_url,
        "CUMULET_FABRIC": site.fabric,
        "CUMULET_STATIC_ROOT": str(instance.static),
        "CUMULET_LOG_FORMAT": "json",
        "CUMULET_LOG_PATHS": str(instance.log),
        **{name: os.environ[name] for name in _TUNABLE if name in os.environ},
    }


def programs(instance: Instance, release: Path) -> list[Program]:
    env = {
        **environment(instance),
        "HOME": str(_home(instance)),
        "PATH": SYSTEM_PATH,
        "LANG": "C.UTF-8",
    }
    celery = [sys.executable, "-m", "celery", "--quiet", "-A", "cloud.celery"]
    flower_port = f"--port={instance.ports.flower}"
    flower_env = {
        "FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{instance.passwords.flower}",
        "FLOWER_BROKER_API": f"{broker.api_url(instance)}/api/",
    }
    worker = ["worker", "--pool", "threads", "--concurrency", "4", "-n", "control@%h.control"]
    commands = {
        WEB: [sys.executable, "-m", "cloud.asgi", "--port", str(instance.ports.web)],
        WORKER: [*celery, *worker, "-Q", "control,laneless-reports", "-E", "--loglevel", "INFO"],
        BEAT: [*celery, "beat", "-s", str(_home(instance) / "beat-schedule"), "--pidfile="],
        FLOWER: [sys.executable, "-m", "cloud.flower", "--address=127.0.0.1", flower_port],
    }
    # Flower exports metrics of its own, and must not take part in ours.
    ours = {"PROMETHEUS_MULTIPROC_DIR": str(_metrics(instance))}
    return [
        Program(
            name=name,
            argv=argv,
            directory=release,
            user=accounts.CONTROL,
            env={
                **env,
                **(flower_env if name == FLOWER else ours),
                "CUMULET_SERVICE": name,
            },
        )
        for name, argv in commands.items()
    ]


@contextmanager
def stopped(instance: Instance) -> Iterator[None]:
    """Nothing of the control plane runs meanwhile; hosts and their servers go on."""
    supervisor, names = Supervisor(instance), (WEB, WORKER, BEAT, FLOWER)
    supervisor.stop(*names)
    try:
        yield
    finally:
        supervisor.start(*names)


def web_ready(instance: Instance) -> bool:
    """Whether the API answers, be it with a refusal for want of a token."""
    try:
        return httpx.get(f"{instance.api_url}/locations", timeout=5).status_code < 500
    except httpx.HTTPError:
        return False


def flower_ready(instance: Instance) -> bool:
    try:
        return httpx.get(f"{instance.flower_url}/healthcheck", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def bundle(instance: Instance, host: str) -> Path:
    return _home(instance) / "bundles" / f"{host}.json"


def manage(instance: Instance, release: Path, commands: Sequence[Sequence[str]]) -> list[str]:
    """Run management commands in order, in one process; answers what each printed.

    Raises CommandRefused with the message of the one that failed.
    """
    try:
        result = shell.run(
            [sys.executable, "-m", "deploy.commands"],
            timeout=300,
            input=json.dumps(commands),
            env={
                **environment(instance),
                "CUMULET_ADMIN_PASSWORD": instance.passwords.admin,
                "CUMULET_LOG_LEVEL": "WARNING",
                "PYTHONPATH": str(release),
            },
            user=accounts.CONTROL,
            cwd=release,
        )
    except shell.CommandFailed as error:
        raise CommandRefused(error.message) from error
    outputs: list[str] = json.loads(result.stdout)
    return outputs


def _home(instance: Instance) -> Path:
    return instance.data / "control"


def _metrics(instance: Instance) -> Path:
    """Where web, worker and beat count together; gone when the cloud is down."""
    return instance.run / "metrics"
