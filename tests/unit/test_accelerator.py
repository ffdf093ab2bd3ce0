"""Which verdicts on hardware virtualisation hold, and when it is asked for again."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud import shell
from cloud.hostconfig import HostConfig
from tests.documents import HOST_UUID
from vms.host import accelerator, startup
from vms.host.host import Host, Owner
from vms.host.paths import HostPaths

RAN = 0x10 * 2 + 1


class Qemu:
    """A probe that says in the order of `course` what it ended with; None: it had to be killed."""

    def __init__(self, *course: int | None) -> None:
        self.course = list(course)
        self.limits: list[float] = []

    def __call__(self, argv: list[str], *, timeout: float, ok: object) -> shell.Result:
        self.limits.append(timeout)
        code = self.course.pop(0)
        if code is None:
            raise shell.CommandTimeout("too long")
        return shell.Result(tuple(argv), code, "", "Could not access KVM kernel module")


Play = Callable[..., Qemu]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Play:
    """What QEMU does from now on, on a machine that has the device."""
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accelerator, "KVM", device)

    def played(*course: int | None) -> Qemu:
        qemu = Qemu(*course)
        monkeypatch.setattr(accelerator.shell, "run", qemu)
        return qemu

    return played


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return opened(tmp_path)


def opened(place: Path) -> Host:
    paths = HostPaths(place / "state", place / "run")
    for path in (paths.state, paths.run, paths.locks):
        path.mkdir(parents=True, exist_ok=True)
    config = HostConfig("h1", "amqp://h1:secret@127.0.0.1:5672/", paths.state, paths.run)
    return Host(config, paths, HOST_UUID, "boot", None)


def agent_starts(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def same(_: Any) -> Host:
        return host

    monkeypatch.setattr(startup, "config", lambda: host.config)
    monkeypatch.setattr(Host, "open", same)
    monkeypatch.setattr(startup.bridging, "prepare", lambda _: None)
    startup.host.cache_clear()
    startup.host()
    startup.host.cache_clear()


def test_a_guest_that_ran_is_asked_once_for_each_boot(
    host: Host, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu = play(RAN)
    assert accelerator.chosen(host).kind == "kvm"
    agent_starts(host, monkeypatch)
    assert accelerator.chosen(host).kind == "kvm"
    assert len(qemu.limits) == 1


def test_a_machine_that_is_slow_to_boot_gets_its_hardware(host: Host, play: Play) -> None:
    qemu = play(None, RAN)
    assert accelerator.chosen(host).kind == "kvm"
    assert qemu.limits == [2, 10]


def test_hardware_that_hangs_guests_is_not_tried_again_in_the_same_boot(
    host: Host, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(None, None)
    assert accelerator.chosen(host).kind == "tcg"
    agent_starts(host, monkeypatch)
    verdict = accelerator.chosen(host)
    assert (verdict.kind, verdict.reason) == (
        "tcg",
        "guests are emulated, slowly: a guest on kvm did not run within 10 s",
    )


def test_a_module_that_is_loaded_later_counts_from_the_agents_next_start(
    host: Host, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator.KVM.unlink()
    qemu = play(RAN)
    assert accelerator.chosen(host).kind == "tcg"
    accelerator.KVM.touch()
    assert accelerator.chosen(host).kind == "tcg"
    agent_starts(host, monkeypatch)
    assert accelerator.chosen(host).kind == "kvm"
    assert len(qemu.limits) == 1


def test_a_refusal_is_asked_about_once_until_the_agents_next_start(
    host: Host, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = play(1)
    assert {accelerator.chosen(host).kind for _ in range(3)} == {"tcg"}
    assert len(refused.limits) == 1
    play(RAN)
    agent_starts(host, monkeypatch)
    assert accelerator.chosen(host).kind == "kvm"


def test_a_verdict_of_an_earlier_release_is_asked_for_again(
    host: Host, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = '{"boot_id":"boot","kind":"tcg","reason":"guests are emulated, slowly: denied"}'
    host.paths.accelerator.write_text(before)
    play(RAN)
    agent_starts(host, monkeypatch)
    assert accelerator.chosen(host).kind == "kvm"


def test_a_qemu_user_outside_the_devices_group_is_told_to_join_it(
    host: Host, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody, group = pwd.getpwnam("nobody"), grp.getgrnam("daemon")
    monkeypatch.setattr(accelerator, "_GROUP", group.gr_name)
    os.chown(accelerator.KVM, 0, group.gr_gid)
    accelerator.KVM.chmod(0o660)
    play(1)
    owned = replace(host, owner=Owner(nobody.pw_name, nobody.pw_uid, nobody.pw_gid))
    assert "`usermod -aG daemon nobody`, then restart the agent" in accelerator.chosen(owned).reason
