"""Files that say the same thing in two places say the same thing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cloud.broker import permissions
from deploy import control, lab, state
from deploy.hosts import LabHost
from deploy.ports import Ports
from deploy.sites import POOLS

DEPLOY = Path(state.__file__).parent
INSTANCE = state.Instance(
    "abc123", Path("/state"), Ports(8000, 5555, 1, 2, 3, 4, 5, 6), state.Passwords()
)


def unit_command(name: str) -> list[str]:
    """The module and arguments that a production unit starts."""
    text = (DEPLOY / "systemd" / f"cumulet-{name}.service").read_text()
    found = re.search(r"^ExecStart=\S+/python -m (.*)$", text, re.MULTILINE)
    assert found
    return shlex.split(found[1].replace("%%", "%"))


@pytest.mark.parametrize("name", ["web", "control", "beat", "flower"])
def test_production_runs_control_as_the_lab_does(name: str) -> None:
    programs = {program.name: program for program in control.programs(INSTANCE, Path("/release"))}
    _, dash_m, *command = (str(part) for part in programs[name].argv)
    schedule = f"{INSTANCE.data}/control/beat-schedule"
    production = [
        schedule if part == "/var/lib/cumulet/control/beat-schedule" else part
        for part in unit_command(name)
    ]
    assert dash_m == "-m"
    assert command == production


def test_no_host_of_the_name_of_controls_machine_reads_controls_mailbox() -> None:
    """Celery names it after the worker: who may write there may end the worker."""
    command = unit_command("control")
    node = command[command.index("-n") + 1].replace("%h", "h1")
    for pattern in permissions("h1").values():
        assert not re.search(pattern, f"{node}.celery.pidbox")


@pytest.mark.parametrize("name", ["web", "control", "beat", "flower"])
def test_who_counts_together_in_the_lab_does_so_in_production(name: str) -> None:
    programs = {program.name: program for program in control.programs(INSTANCE, Path("/release"))}
    unit = (DEPLOY / "systemd" / f"cumulet-{name}.service").read_text()
    variable = "PROMETHEUS_MULTIPROC_DIR"
    assert (variable in programs[name].env) == (f"Environment={variable}=" in unit)
    assert (variable in programs[name].env) == (name != "flower")
    assert variable not in control.environment(INSTANCE)


def test_no_control_process_has_a_secret_on_its_command_line() -> None:
    secrets = [getattr(INSTANCE.passwords, name) for name in state.Passwords.__struct_fields__]
    for program in control.programs(INSTANCE, Path("/release")):
        line = shlex.join(program.command())
        assert not [secret for secret in secrets if secret in line]
        assert program.user == "cumulet"


def test_sockets_of_a_lab_host_fit_into_a_socket_address() -> None:
    host = LabHost(INSTANCE, lab.MAX_HOSTS, lab.MAX_HOSTS)
    assert len(f"{host.run}/9007199254740991/events".encode()) <= 107


def test_no_two_hosts_of_the_fabric_have_one_address() -> None:
    with_root = [lab.uplink_address(number + 1) for number in range(lab.MAX_HOSTS)]
    without = [lab.rootless_address(number + 1) for number in range(lab.MAX_ROOTLESS)]
    assert len({*with_root, *without}) == lab.MAX_HOSTS + lab.MAX_ROOTLESS


def test_every_pool_of_the_lab_is_on_link_in_its_fabric() -> None:
    assert {pool.cidr for pool in POOLS} == set(lab.PUBLIC_POOLS)


def test_hosts_beyond_the_fabric_are_refused() -> None:
    assert lab.uplink_address(1) == "192.0.2.11"
    with pytest.raises(ValueError, match="fabric has room"):
        lab.uplink_address(lab.MAX_HOSTS + 1)
