"""The control plane's processes and commands: web, worker, beat, Flower, manage.py.

Used by `deploy.cloud`. Everything here runs from a release as an unprivileged user; what
differs between clouds is in the environment, so that no password shows in a process list.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import httpx

from cloud import shell
from cloud.errors import CumuletError
from deploy import accounts, broker, lab, postgres
from deploy.state import Instance
from deploy.supervise import SYSTEM_PATH, Program

WEB, WORKER, BEAT, FLOWER = "web", "control", "beat", "flower"
ADMIN, FLOWER_USER = "admin", "flower"


class CommandRefused(CumuletError):
    """A management command failed."""

    code: ClassVar[str] = "management_command_failed"


def prepare(instance: Instance) -> None:
    """Directories of the control user; bundles of lab hosts lie there until an agent reads them."""
    home = accounts.own(_home(instance), accounts.CONTROL)
    accounts.own(instance.static, accounts.CONTROL)
    accounts.own(home / "bundles", accounts.CONTROL)


def environment(instance: Instance) -> dict[str, str]:
    """What cloud/settings.py reads."""
    return {
        "DJANGO_SETTINGS_MODULE": "cloud.settings",
        "CUMULET_SECRET_KEY": instance.passwords.secret_key,
        "CUMULET_DATABASE_URL": postgres.url(instance),
        "CUMULET_BROKER_URL": broker.url(instance),
        "CUMULET_BROKER_API_URL": broker.api_url(instance),
        "CUMULET_HOST_BROKER_URL": f"amqp://{lab.CONTROL}:5672/{broker.VHOST}",
        "CUMULET_PUBLIC_URL": instance.web_url,
        "CUMULET_FLOWER_URL": instance.flower_url,
        "CUMULET_FABRIC": lab.FABRIC,
        "CUMULET_STATIC_ROOT": str(instance.static),
        "CUMULET_LOG_FORMAT": "json",
    }


def programs(instance: Instance, release: Path) -> list[Program]:
    env = {
        **environment(instance),
        "HOME": str(_home(instance)),
        "PATH": SYSTEM_PATH,
        "LANG": "C.UTF-8",
    }
    celery = [sys.executable, "-m", "celery", "-A", "cloud.celery"]
    port = str(instance.ports.web)
    flower_env = {
        "FLOWER_BASIC_AUTH": f"{FLOWER_USER}:{instance.passwords.flower}",
        "FLOWER_BROKER_API": f"{broker.api_url(instance)}/api/",
    }
    worker = ["worker", "--pool", "threads", "--concurrency", "4", "-n", "control@%h"]
    server = ["uvicorn", "cloud.asgi:application", "--host", "127.0.0.1", "--port", port]
    commands = {
        WEB: [sys.executable, "-m", *server, "--no-server-header", "--no-access-log"],
        WORKER: [*celery, *worker, "-Q", "control,reports,dead", "-E", "--loglevel", "INFO"],
        BEAT: [*celery, "beat", "-s", str(_home(instance) / "beat-schedule"), "--pidfile="],
        FLOWER: [*celery, "flower", "--address=127.0.0.1", f"--port={instance.ports.flower}"],
    }
    # The arguments name the server; the defaults would show the task's UUID instead.
    columns = "name,args,state,received,runtime,worker"
    commands[FLOWER] += ["--read_only", f"--tasks_columns={columns}"]
    return [
        Program(
            name=name,
            argv=argv,
            directory=release,
            user=accounts.CONTROL,
            env={**env, "CUMULET_SERVICE": name, **(flower_env if name == FLOWER else {})},
        )
        for name, argv in commands.items()
    ]


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
