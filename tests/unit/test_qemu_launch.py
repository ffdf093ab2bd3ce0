"""How QEMU is started so that it outlives the agent, without any privilege."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cloud import shell
from cloud.hostconfig import HostConfig
from tests.documents import HOST_UUID, VM_UUID
from vms.host import qemu
from vms.host.host import Host, Owner
from vms.host.paths import HostPaths
from vms.host.qemu import Process, unit_argv

CONFIG = HostConfig("h1", "amqp://", Path("/state"), Path("/run/h1"), netns="/run/netns/h1")
HOST = Host(
    CONFIG,
    HostPaths(CONFIG.state_dir, CONFIG.run_dir),
    HOST_UUID,
    "boot-1",
    Owner("cumulet-qemu", 992, 991),
)
ROOTLESS = replace(HOST, owner=None, config=replace(CONFIG, netns=None))


def test_the_qemu_user_keeps_its_groups_and_loses_every_privilege() -> None:
    assert HOST.drop_privileges == [
        "setpriv",
        "--reuid=992",
        "--regid=991",
        "--init-groups",
        "--no-new-privs",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ]


def test_an_agent_without_privilege_has_none_to_drop() -> None:
    assert ROOTLESS.drop_privileges == []


def test_under_systemd_a_guest_is_a_unit_of_its_own_in_the_host_s_namespace() -> None:
    assert unit_argv(HOST, VM_UUID, HOST.paths.vm(7), ["qemu", "-x"]) == [
        "systemd-run",
        "--quiet",
        "--collect",
        "--slice=cumulet.slice",
        f"--unit=cumulet-vm-{VM_UUID}.service",
        "--property=StandardError=append:/state/vms/7/qemu.log",
        "--property=Type=exec",
        "--property=KillMode=mixed",
        "--property=NoNewPrivileges=yes",
        "--property=OOMPolicy=continue",
        "--property=User=cumulet-qemu",
        "--property=Group=991",
        "--property=CapabilityBoundingSet=",
        "--property=NetworkNamespacePath=/run/netns/h1",
        "--",
        "qemu",
        "-x",
    ]


def test_without_a_namespace_the_unit_says_nothing_of_one() -> None:
    here = replace(HOST, config=replace(CONFIG, netns=None))
    argv = unit_argv(here, VM_UUID, here.paths.vm(7), ["qemu"])
    assert not [word for word in argv if "NetworkNamespace" in word]


def test_a_users_agent_asks_nothing_of_the_machines_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be refused."""
    paths = HostPaths(tmp_path, tmp_path / "run").vm(7)
    paths.run.parent.mkdir(parents=True)
    started: list[list[str]] = []
    monkeypatch.setattr(qemu, "_systemd", lambda: True)
    monkeypatch.setattr(qemu, "_appeared", lambda *_: Process(4711, 1))
    monkeypatch.setattr(qemu, "_answers", lambda *_: True)
    monkeypatch.setattr(shell, "detach", lambda argv, log: started.append(argv))
    qemu.start(ROOTLESS, VM_UUID, paths, ["qemu", "-x"])
    assert started == [["qemu", "-x"]]
