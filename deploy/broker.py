"""This cloud's own RabbitMQ: configuration, programs, readiness.

One of the services that `deploy.cloud` starts. The node has its own name, cookie, ports and
epmd, so that a broker that already runs on the machine is never touched.
"""

from __future__ import annotations

import secrets
import string
from pathlib import Path
from typing import ClassVar

import httpx
import psutil

from cloud.errors import CumuletError
from deploy import accounts, processes
from deploy.state import CHECKOUT, Instance
from deploy.supervise import SYSTEM_PATH, Program

NAME = "rabbitmq"
EPMD = "epmd"
VHOST = "cumulet"
_TEMPLATES = CHECKOUT / "deploy" / "rabbitmq"
# The wrappers in /usr/sbin accept only root and the package's own user.
_PROGRAMS = Path("/usr/lib/rabbitmq/bin")
# Ending takes it 6 s, on a busy machine more.
_END_SECONDS = 30.0


class BrokerRefused(CumuletError):
    """RabbitMQ's management API refused a request of ours."""

    code: ClassVar[str] = "broker_refused"


def url(instance: Instance) -> str:
    return f"amqp://control:{instance.passwords.broker}@127.0.0.1:{instance.ports.broker}/{VHOST}"


def api_url(instance: Instance) -> str:
    return f"http://control:{instance.passwords.broker}@127.0.0.1:{instance.ports.broker_api}"


def prepare(instance: Instance) -> None:
    """Write configuration, plugin list and Erlang cookie."""
    home = accounts.own(_home(instance), accounts.DATA)
    accounts.write_for(home / "rabbitmq.conf", _configuration(instance), accounts.DATA)
    plugins = (_TEMPLATES / "enabled_plugins").read_text()
    accounts.write_for(home / "enabled_plugins", plugins, accounts.DATA)
    cookie = home / ".erlang.cookie"
    if not cookie.exists():
        accounts.write_for(cookie, secrets.token_hex(20), accounts.DATA)
        cookie.chmod(0o400)


def programs(instance: Instance) -> list[Program]:
    home, environment = _home(instance), _environment(instance)
    epmd = Program(
        name=EPMD,
        argv=["epmd", "-port", str(instance.ports.epmd), "-address", "127.0.0.1"],
        directory=home,
        user=accounts.DATA,
        env={"HOME": str(home)},
    )
    server = Program(
        name=NAME,
        argv=[_PROGRAMS / "rabbitmq-server"],
        directory=home,
        user=accounts.DATA,
        env=environment,
        configuration=_configuration(instance),
        stop_seconds=30,
        stop_group=True,
    )
    return [epmd, server]


def end_orphan(instance: Instance) -> None:
    """Wait for a broker whose supervisor was killed to end; its name is taken until then."""
    node = _node(instance)
    left = [p for p in processes.of_instance(instance.id) if _node_of(p) == node]
    processes.end(left, patience=_END_SECONDS)


def ready(instance: Instance) -> bool:
    """Whether the broker takes work: the management API comes up last."""
    try:
        answer = httpx.get(f"{api_url(instance)}/api/vhosts/{VHOST}", timeout=5)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


def purge_all(instance: Instance) -> None:
    """Throw away every message that waits in any queue, as a broker would that lost its disk."""
    with httpx.Client(base_url=api_url(instance), timeout=10) as api:
        for queue in _checked(api.get(f"/api/queues/{VHOST}")).json():
            if not queue.get("exclusive"):
                _checked(api.delete(f"/api/queues/{VHOST}/{queue['name']}/contents"))


def _node_of(process: psutil.Process) -> str | None:
    """The node that a process of RabbitMQ was started for."""
    try:
        node: str | None = process.environ().get("RABBITMQ_NODENAME")
    except psutil.NoSuchProcess:
        return None
    return node


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise BrokerRefused(f"{answer.request.method} {answer.url.path}: {answer.text[:500]}")
    return answer


def _home(instance: Instance) -> Path:
    return instance.data / "rabbitmq"


def _node(instance: Instance) -> str:
    return f"cumulet-{instance.id}@localhost"


def _configuration(instance: Instance) -> str:
    return string.Template((_TEMPLATES / "rabbitmq.conf").read_text()).substitute(
        broker_port=instance.ports.broker,
        api_port=instance.ports.broker_api,
        metrics_port=instance.ports.broker_metrics,
        password=instance.passwords.broker,
    )


def _environment(instance: Instance) -> dict[str, str]:
    home = _home(instance)
    return {
        "HOME": str(home),
        "PATH": SYSTEM_PATH,
        "LANG": "C.UTF-8",
        "RABBITMQ_NODENAME": _node(instance),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_DIST_PORT": str(instance.ports.broker_distribution),
        "ERL_EPMD_PORT": str(instance.ports.epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false"
        ),
    }
