"""The micro guest's image, booted by a bare QEMU: what it does with its seed, disk and buttons.

Network is QEMU's user mode, whose gateway and DHCP server are 10.0.2.2.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud import shell
from deploy import images
from deploy.images import GuestImage
from tests.host.conftest import BASE
from vms.host import qmp, seed

MAC = "52:54:00:aa:bb:01"
BOOT_SECONDS = 60.0
# From the button to the end of QEMU: 0.2 s on an idle machine.
POWER_OFF_SECONDS = 5.0

NETWORK = {
    "version": 2,
    "ethernets": {
        "nic0": {
            "match": {"macaddress": MAC},
            "set-name": "public",
            "addresses": ["10.0.2.15/32", "2001:db8::15/64"],
            "routes": [{"to": "0.0.0.0/0", "via": "10.0.2.2", "on-link": True}],
            "nameservers": {"addresses": ["192.0.2.53"]},
            "mtu": 1400,
        }
    },
}
SCRIPT = "#!/bin/sh\nip route show default >/tmp/route\necho from-user-data\n"


class Micro:
    """One micro guest and its QEMU, in `home`."""

    def __init__(self, image: GuestImage, home: Path, key: Path) -> None:
        self.home, self._image, self._key = home, image, key
        self.console = home / "console"
        self.disk = home / "disk.qcow2"
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]

    def make_disk(self, *, blank: bool = False) -> None:
        base = [] if blank else ["-F", "qcow2", "-b", self._image.disk.file]
        shell.run(["qemu-img", "create", "-q", "-f", "qcow2", *base, self.disk, "1G"], timeout=30)

    def start(
        self,
        *,
        network: dict[str, Any] | None = NETWORK,
        user_data: str = "",
        seed_device: str = "virtio-blk-pci,drive=seed",
    ) -> None:
        """Boot, and return once sshd listens."""
        if not self.disk.exists():
            self.make_disk()
        files = {"meta-data": json.dumps(self._meta_data()), "user-data": user_data}
        if network is not None:
            files["network-config"] = json.dumps(network)
        (self.home / "seed").write_bytes(seed.iso(files))
        self.console.unlink(missing_ok=True)
        self._process = shell.spawn(self._argv(seed_device), log=self.home / "log")
        self.until_up(1)

    def until_up(self, times: int) -> None:
        """Wait until the guest has said so many times that it is up."""
        deadline = time.monotonic() + BOOT_SECONDS
        while self.said().count("cumulet-micro: up") < times:
            assert self.running, (self.home / "log").read_text()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ends_within(self, seconds: float) -> bool:
        assert self._process
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def ssh(self, command: str, *, ok: range = range(1)) -> str:
        return self.login(command, ok=ok).stdout.strip()

    def login(self, command: str, *options: str, ok: range = range(1)) -> shell.Result:
        options += ("BatchMode=yes", "StrictHostKeyChecking=no", "HashKnownHosts=no")
        options += (f"UserKnownHostsFile={self.home / 'known_hosts'}", "LogLevel=ERROR")
        words = [word for option in options for word in ("-o", option)]
        words += ["-i", str(self._key), "-p", str(self.port), "root@127.0.0.1", command]
        return shell.run(["ssh", *words], timeout=30, ok=ok)

    def host_key(self) -> str:
        (self.home / "known_hosts").unlink(missing_ok=True)
        self.ssh("true")
        return (self.home / "known_hosts").read_text()

    def press(self, command: str, **arguments: object) -> None:
        """One QMP command, as the host side sends it."""

        async def send() -> None:
            async with qmp.connected(self.home / "qmp") as client:
                await qmp.execute(client, command, **arguments)

        asyncio.run(send())

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def _meta_data(self) -> dict[str, object]:
        key = self._key.with_suffix(".pub").read_text().strip()
        return {"instance-id": "i-1", "local-hostname": "web-1", "public-keys": [key]}

    def _argv(self, seed_device: str) -> list[str | Path]:
        assert self._image.kernel
        assert self._image.initrd
        assert self._image.cmdline
        return [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-machine", "q35", "-accel", "tcg", "-smp", "2", "-m", "128"),
            *("-kernel", self._image.kernel.file, "-initrd", self._image.initrd.file),
            *("-append", self._image.cmdline),
            *("-drive", f"if=none,id=disk,format=qcow2,file={self.disk}"),
            *("-device", "virtio-blk-pci,drive=disk"),
            *("-drive", f"if=none,id=seed,format=raw,readonly=on,file={self.home / 'seed'}"),
            *("-device", "virtio-scsi-pci", "-device", seed_device),
            *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
            *("-device", f"virtio-net-pci,netdev=net,mac={MAC},romfile="),
            *("-device", "virtio-rng-pci"),
            *("-qmp", f"unix:{self.home / 'qmp'},server=on,wait=off"),
            *("-serial", f"file:{self.console}"),
        ]


@pytest.fixture(scope="module")
def image() -> GuestImage:
    return images.build("micro", images.default_cache(), print)


@pytest.fixture(scope="module")
def make(image: GuestImage, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Any]:
    key = tmp_path_factory.mktemp("ssh") / "key"
    shell.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], timeout=30)

    @contextmanager
    def made() -> Iterator[Micro]:
        home = BASE / f"cu-{secrets.token_hex(3)}"  # a socket's path is short
        home.mkdir(mode=0o700)
        guest = Micro(image, home, key)
        try:
            yield guest
        finally:
            guest.kill()
            shutil.rmtree(home)

    return made


@pytest.fixture
def guest(make: Callable[[], Any]) -> Iterator[Micro]:
    with make() as made:
        yield made


@pytest.fixture(scope="module")
def configured(make: Callable[[], Any]) -> Iterator[Micro]:
    """A guest with the static network and a script, for tests that only look."""
    with make() as made:
        made.start(user_data=SCRIPT)
        yield made


def test_the_guest_has_the_name_of_its_seed(configured: Micro) -> None:
    assert configured.ssh("hostname") == "web-1"


@pytest.mark.parametrize("address", ["inet 10.0.2.15/32 ", "inet6 2001:db8::15/64 "])
def test_the_interface_has_its_addresses_at_once(configured: Micro, address: str) -> None:
    shown = configured.ssh("ip address show dev public")
    assert address in shown
    assert "tentative" not in shown


def test_the_default_route_goes_through_a_gateway_outside_every_subnet(configured: Micro) -> None:
    assert configured.ssh("ip route show default") == "default via 10.0.2.2 dev public onlink"
    assert "1 packets received" in configured.ssh("ping -c 1 -W 5 10.0.2.2")


def test_the_interface_has_the_mtu_of_the_seed(configured: Micro) -> None:
    assert configured.ssh("cat /sys/class/net/public/mtu") == "1400"


def test_the_resolver_asks_the_nameserver_of_the_seed(configured: Micro) -> None:
    assert configured.ssh("cat /etc/resolv.conf") == "nameserver 192.0.2.53"


def test_a_script_in_user_data_runs_when_the_network_is_up(configured: Micro) -> None:
    assert "via 10.0.2.2" in configured.ssh("cat /tmp/route")
    assert "from-user-data" in configured.said()


def test_a_password_opens_nothing(configured: Micro) -> None:
    refused = configured.login("true", "PubkeyAuthentication=no", ok=range(255, 256))
    assert "Permission denied (publickey)" in refused.stderr


def test_without_a_network_config_the_guest_asks_by_dhcp(guest: Micro) -> None:
    guest.start(network=None)
    assert "inet 10.0.2.15/24 " in guest.ssh("ip address show dev eth0")
    assert "default via 10.0.2.2" in guest.ssh("ip route show default")


@pytest.mark.parametrize(
    "user_data",
    [
        "#cloud-config\nssh_authorized_keys:\n  - ssh-ed25519 AAAA second\n",
        '#cloud-config\n{"ssh_authorized_keys": ["ssh-ed25519 AAAA second"]}\n',
    ],
)
def test_keys_of_a_cloud_config_are_added(guest: Micro, user_data: str) -> None:
    guest.start(user_data=user_data)
    keys = guest.ssh("cat /root/.ssh/authorized_keys").splitlines()
    assert (len(keys), keys[1]) == (2, "ssh-ed25519 AAAA second")


def test_a_seed_on_a_cd_is_found(guest: Micro) -> None:
    guest.start(seed_device="scsi-cd,drive=seed")
    assert guest.ssh("hostname") == "web-1"


def test_a_disk_that_grew_keeps_the_host_key_across_boots(guest: Micro) -> None:
    guest.start()
    before = guest.host_key()
    guest.press("system_powerdown")
    assert guest.ends_within(POWER_OFF_SECONDS)
    shell.run(["qemu-img", "resize", "-q", guest.disk, "+1G"], timeout=30)
    guest.start()
    assert guest.host_key() == before


def test_a_blank_disk_is_left_alone(guest: Micro) -> None:
    guest.make_disk(blank=True)
    guest.start()
    assert "/dev/vda" not in guest.ssh("cat /proc/mounts")


def test_the_power_button_switches_off(guest: Micro) -> None:
    guest.start()
    guest.press("system_powerdown")
    assert guest.ends_within(POWER_OFF_SECONDS)


def test_ctrl_alt_delete_reboots(guest: Micro) -> None:
    guest.start()
    keys = [{"type": "qcode", "data": name} for name in ("ctrl", "alt", "delete")]
    guest.press("send-key", keys=keys)
    guest.until_up(2)
    assert guest.ssh("hostname") == "web-1"


def test_the_guest_can_reboot_and_switch_off_by_itself(guest: Micro) -> None:
    guest.start()
    guest.ssh("reboot", ok=range(256))
    guest.until_up(2)
    guest.ssh("poweroff", ok=range(256))
    assert guest.ends_within(POWER_OFF_SECONDS)
