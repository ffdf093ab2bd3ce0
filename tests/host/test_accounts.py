"""System users as deploy makes them, in the files of this machine."""

from __future__ import annotations

import grp
import pwd
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud import shell
from deploy import accounts


@dataclass(frozen=True)
class Names:
    """Of a group that may open the device, and of the two users that guests run as."""

    group: str
    qemu: str
    rootless: str


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """Users of this test's own, of whom there is none yet. The group is there."""
    made = Names(*(f"cu-{what}-{secrets.token_hex(3)}" for what in ("k", "q", "r")))
    shell.run(["groupadd", "--system", made.group], timeout=30)
    monkeypatch.setattr(accounts, "_KVM", made.group)
    monkeypatch.setattr(accounts, "QEMU", made.qemu)
    monkeypatch.setattr(accounts, "ROOTLESS", made.rootless)
    yield made
    for name in (made.qemu, made.rootless):
        if name in {entry.pw_name for entry in pwd.getpwall()}:
            shell.run(["userdel", name], timeout=30)
    shell.run(["groupdel", made.group], timeout=30)


def groups_of_a_guest(user: str) -> set[str]:
    """The groups that QEMU has, which is started by these words."""
    entry = pwd.getpwnam(user)
    drop = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups"]
    numbers = shell.run([*drop, "id", "--groups"], timeout=10).stdout.split()
    return {grp.getgrgid(int(number)).gr_name for number in numbers}


def test_guests_of_every_kind_of_host_may_open_the_device_for_hardware_virtualisation(
    names: Names,
) -> None:
    accounts.ensure_users()
    assert groups_of_a_guest(names.qemu) == {names.qemu, names.group}
    assert groups_of_a_guest(names.rootless) == {names.rootless, names.group}


def test_a_user_that_an_earlier_release_made_joins_the_group(names: Names) -> None:
    shell.run(["useradd", "--system", "--user-group", names.qemu], timeout=30)
    accounts.ensure_users()
    assert names.group in groups_of_a_guest(names.qemu)
    written = Path("/etc/group").stat()
    accounts.ensure_users()
    assert Path("/etc/group").stat().st_ino == written.st_ino


def test_without_the_group_users_are_made_all_the_same(
    names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "_KVM", f"{names.group}-none")
    accounts.ensure_users()
    assert groups_of_a_guest(names.qemu) == {names.qemu}
