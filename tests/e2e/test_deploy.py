"""The commands of the README, as a person types them: from nothing to a login, and back."""

from __future__ import annotations

import re
import shlex
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cloud import shell
from deploy import guests, processes, state
from deploy.lab import Lab
from deploy.state import Instance
from deploy.supervise import Supervisor
from tests.e2e.machine import Machine, left_by
from tests.e2e.world import until
from vms.host import guestagent

pytestmark = pytest.mark.first_vm
SMALL = ("--guest", "micro", "--hosts", "1")


@dataclass(frozen=True)
class Checkout:
    """One cloud, driven through the commands alone; `code`: the checkout that they are of."""

    state: Path
    code: Path = state.CHECKOUT

    def deploy(self, *command: str, timeout: float = 900) -> shell.Result:
        env = {"CUMULET_STATE": str(self.state), "CUMULET_STARTED": str(time.time())}
        return shell.run(
            [self.code / "deploy" / command[0], *command[1:]], timeout=timeout, env=env
        )

    def user(self, line: str, *, ok: range = range(1)) -> shell.Result:
        """A command line as the user types it after reading in the env file."""
        script = f". {shlex.quote(str(self.state / 'env'))} && {line}"
        return shell.run(["bash", "-c", script], timeout=180, ok=ok)

    def ssh(self, host: str, command: str) -> str:
        config = shlex.quote(str(self.state / "ssh_config"))
        return self.user(f"ssh -F {config} root@{host} {shlex.quote(command)}").stdout.strip()

    @property
    def instance(self) -> Instance:
        instance = state.load(self.state)
        assert instance is not None
        return instance

    def servers(self) -> dict[str, str]:
        """Status by name."""
        listing = self.user("hcloud server list -o noheader -o columns=name,status").stdout
        return dict(line.split() for line in listing.splitlines())

    def boot_of_first(self) -> str:
        address = self.user("hcloud server ip first").stdout.strip()
        return self.ssh(address, "cat /proc/sys/kernel/random/boot_id")


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

    the_guests_agent_tells_its_address(checkout, login[1])
    the_env_file_serves_debians_hcloud(checkout)
    a_second_run_changes_nothing(checkout)
    secrets_are_private(checkout)

    instance = checkout.instance
    checkout.deploy("down", "--purge")
    assert left_by(instance, before, Machine.now()) == []
    assert not instance.data.exists()
    assert not checkout.state.exists()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A cloud with one host and a running micro guest."""
    checkout = Checkout(tmp_path_factory.mktemp("small") / "state")
    checkout.deploy("up", *SMALL)
    yield checkout
    checkout.deploy("down", "--purge")


def test_up_mends_a_cloud_whose_supervisor_was_killed_and_no_guest_notices(
    small: Checkout,
) -> None:
    boot = small.boot_of_first()
    supervisord = small.instance.run / "supervisord.pid"
    psutil.Process(int(supervisord.read_text())).kill()
    small.deploy("up", *SMALL)
    assert small.boot_of_first() == boot
    assert small.servers() == {"first": "running"}


def test_what_went_down_comes_up_again(small: Checkout) -> None:
    small.user("hcloud server create --name second --type nano --image micro --ssh-key cumulet")
    small.user("hcloud server poweroff second")
    boot, instance = small.boot_of_first(), small.instance

    small.deploy("down")
    assert processes.of_instance(instance.id) == []
    assert not list(Path("/run/netns").glob(f"cu-{instance.id}-*"))

    small.deploy("up", *SMALL)
    assert small.instance == instance
    assert small.boot_of_first() != boot
    assert small.servers() == {"first": "running", "second": "off"}


def test_after_a_power_cut_up_brings_the_same_cloud_back(small: Checkout) -> None:
    before, boot, instance = small.servers(), small.boot_of_first(), small.instance
    for process in processes.of_instance(instance.id):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for namespace in Lab(instance.id).existing():
        shell.run(["ip", "netns", "delete", namespace], timeout=10)

    small.deploy("up", *SMALL)
    assert small.instance == instance
    assert small.boot_of_first() != boot
    assert small.servers() == before


def test_a_lab_host_is_rebooted_by_its_name_and_its_server_comes_back(small: Checkout) -> None:
    boot, wanted = small.boot_of_first(), small.servers()
    small.deploy("lab", "reboot", "h1")
    address = small.user("hcloud server ip first").stdout.strip()
    guests.wait_for_ssh(small.instance, address, seconds=60)
    assert small.boot_of_first() != boot
    until(lambda: small.servers() == wanted, "control knows", seconds=60)
    refused = shell.run(
        [small.code / "deploy/lab", "reboot", "h9"],
        timeout=60,
        env={"CUMULET_STATE": str(small.state)},
        ok=(1,),
    )
    assert "choose one of h1" in refused.stderr


def the_guests_agent_tells_its_address(checkout: Checkout, address: str) -> None:
    mac = checkout.ssh(address, "cat /sys/class/net/eth0/address").strip()
    (agent,) = checkout.instance.run.glob("h*/*/agent")
    until(lambda: address in guestagent.addresses(agent, mac), "the agent runs", seconds=60)


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
    assert checkout.servers() == {"first": "running", "second": "running"}
    checkout.user("hcloud server poweroff second")
    assert checkout.servers()["second"] == "off"
    checkout.user("hcloud server delete second")
    assert checkout.servers().get("second", "deleting") == "deleting"


def a_second_run_changes_nothing(checkout: Checkout) -> None:
    def running() -> dict[str, int]:
        supervisor = Supervisor(checkout.instance)
        return {name: supervisor.pid(name) for name in supervisor.states()}

    before = running()
    checkout.deploy("up")
    assert running() == before


def secrets_are_private(checkout: Checkout) -> None:
    for name in ("state.json", "token", "env", "ssh_config", "ssh/id_ed25519"):
        assert stat.S_IMODE((checkout.state / name).stat().st_mode) == 0o600, name
