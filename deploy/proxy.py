"""Control's leg in the fabric: what hosts of the lab reach of the control plane.

Control runs in the machine's own namespace, on loopback. haproxy listens inside the outside
namespace, on 192.0.2.2, and passes connections on: the broker to hosts, nothing else.
"""

from __future__ import annotations

from pathlib import Path

from cloud import shell
from deploy import accounts, lab
from deploy.lab import Lab
from deploy.state import Instance
from deploy.supervise import Program

NAME = "proxy"


def prepare(instance: Instance) -> None:
    _path(instance).write_text(_configuration(instance))


def program(instance: Instance) -> Program:
    """Restarted when the outside namespace is another one than when it bound its socket."""
    namespace = Lab(instance.id).path(Lab(instance.id).outside)
    return Program(
        name=NAME,
        argv=["haproxy", "-db", "-q", "-f", _path(instance)],
        directory=instance.run,
        configuration=f"{_configuration(instance)}{namespace.stat().st_ino}",
    )


def ready(instance: Instance) -> bool:
    world = Lab(instance.id)
    argv = [*world.enter(world.outside), "nc", "-z", "-w", "1", lab.CONTROL, "5672"]
    return shell.run(argv, timeout=5, ok=(0, 1)).code == 0


def _path(instance: Instance) -> Path:
    return instance.run / "haproxy.cfg"


def _configuration(instance: Instance) -> str:
    # No time limit on an established connection: AMQP has its own heartbeat.
    return f"""\
global
    user {accounts.PROXY}
    group {accounts.PROXY}
    maxconn 2000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen broker
    bind {lab.CONTROL}:5672 namespace {Lab(instance.id).outside}
    server rabbitmq 127.0.0.1:{instance.ports.broker}
"""
