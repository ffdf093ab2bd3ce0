"""The commands of the README, as a person types them: from nothing to a login, and back."""

from __future__ import annotations

import re
import shlex
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud import shell
from deploy import processes, state
from tests.e2e.machine import Machine, left_by

pytestmark = pytest.mark.first_vm
DEPLOY = state.CHECKOUT / "deploy"


@dataclass(frozen=True)
class Checkout:
    """One cloud, driven through the commands alone."""

    state: Path

    def deploy(self, *command: str, timeout: float = 900) -> shell.Result:
        env = {"CUMULET_STATE": str(self.state), "CUMULET_STARTED": str(time.time())}
        return shell.run([DEPLOY / command[0], *command[1:]], timeout=timeout, env=env)

    def user(self, line: str, *, ok: range = range(1)) -> shell.Result:
        """A command line as the user types it after reading in the env file."""
        script = f". {shlex.quote(str(self.state / 'env'))} && {line}"
        return shell.run(["bash", "-c", script], timeout=180, ok=ok)

    def ssh(self, host: str, command: str) -> str:
        config = shlex.quote(str(self.state / "ssh_config"))
        return self.user(f"ssh -F {config} root@{host} {shlex.quote(command)}").stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    checkout = Checkout(tmp_path / "state")
    yield checkout
    if checkout.state.exists():
        checkout.deploy("down", "--purge")


def test_from_a_checkout_to_a_debian_that_answers_ssh_and_back(checkout: Checkout) -> None:
    before = Machine.now()

    told = checkout.deploy("up").stderr
    login = re.search(r"ssh -F \S+ root@(\S+)", told)
    assert login, told
    assert 'VERSION_ID="12"' in checkout.ssh(login[1], "cat /etc/os-release")

    the_env_file_serves_debians_hcloud(checkout)
    a_second_run_changes_nothing(checkout)
    secrets_are_private(checkout)

    identity = state.load(checkout.state)
    assert identity is not None
    checkout.deploy("down", "--purge")
    assert left_by(identity.id, before, Machine.now()) == []
    assert not identity.data.exists()
    assert not checkout.state.exists()


def test_what_went_down_comes_up_again(checkout: Checkout) -> None:
    checkout.deploy("up", "--guest", "micro", "--hosts", "1")
    address = checkout.user("hcloud server ip first").stdout.strip()
    checkout.user(
        "hcloud ssh-key list && hcloud server create --name second --type nano"
        " --image micro --start-after-create=false"
    )
    boot = checkout.ssh(address, "cat /proc/sys/kernel/random/boot_id")
    identity = state.load(checkout.state)
    before = Machine.now()

    checkout.deploy("down")
    assert identity is not None
    assert not list(Path("/run/netns").glob(f"cu-{identity.id}-*"))

    checkout.deploy("up", "--guest", "micro", "--hosts", "1")
    assert state.load(checkout.state) == identity
    assert checkout.ssh(address, "cat /proc/sys/kernel/random/boot_id") != boot
    listing = checkout.user("hcloud server list -o noheader -o columns=name,status").stdout
    assert {tuple(line.split()) for line in listing.splitlines()} == {
        ("first", "running"),
        ("second", "off"),
    }
    assert before.links == Machine.now().links


def the_env_file_serves_debians_hcloud(checkout: Checkout) -> None:
    for listing, expected in [
        ("server list", "first"),
        ("image list", "debian-12"),
        ("server-type list", "small"),
        ("location list", "lab"),
        ("ssh-key list", "cumulet"),
    ]:
        assert expected in checkout.user(f"hcloud {listing}").stdout
    create = "hcloud server create --name second --type nano --image micro --ssh-key cumulet"
    checkout.user(create)
    assert "running" in checkout.user("hcloud server list -o columns=name,status").stdout
    checkout.user("hcloud server poweroff second")
    assert "off" in checkout.user("hcloud server describe second -o format={{.Status}}").stdout
    checkout.user("hcloud server delete second")
    left = checkout.user("hcloud server list -o noheader -o columns=name,status").stdout
    assert left.split() in (["first", "running"], ["first", "running", "second", "deleting"])


def a_second_run_changes_nothing(checkout: Checkout) -> None:
    def running() -> set[tuple[int, float, str]]:
        instance = state.load(checkout.state)
        assert instance is not None
        return {
            (process.pid, process.create_time(), process.name())
            for process in processes.of_instance(instance.id)
        }

    was = running()
    began = time.monotonic()
    checkout.deploy("up")
    assert time.monotonic() - began < 30
    assert {entry for entry in was if "qemu" in entry[2] or "postgres" in entry[2]} <= running()


def secrets_are_private(checkout: Checkout) -> None:
    for name in ("state.json", "token", "env", "ssh_config", "ssh/id_ed25519"):
        assert stat.S_IMODE((checkout.state / name).stat().st_mode) == 0o600, name
