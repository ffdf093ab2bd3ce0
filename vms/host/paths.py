"""Every path, unit and interface name of a host, made from ids alone.

Nothing that a user typed becomes part of a name. `HostPaths` are the host's own places,
`VmPaths` those of one VM. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cloud.errors import CumuletError

# struct sockaddr_un holds 108 bytes with the closing zero.
SOCKET_PATH_BYTES = 107
# NicSpec.index ends at 7.
MOST_NICS = 8
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class PathTooLong(CumuletError):
    """A Unix socket's path does not fit into a socket address."""

    code: ClassVar[str] = "path_too_long"


@dataclass(frozen=True)
class HostPaths:
    """`state` survives a reboot of the host, `run` need not."""

    state: Path
    run: Path

    @property
    def identity(self) -> Path:
        return self.state / "identity"

    @property
    def accelerator(self) -> Path:
        return self.state / "accelerator.json"

    @property
    def vms(self) -> Path:
        return self.state / "vms"

    @property
    def tombstones(self) -> Path:
        return self.state / "tombstones"

    def tombstone(self, uuid: str) -> Path:
        return self.tombstones / f"{uuid}.json"

    @property
    def images(self) -> Path:
        return self.state / "images"

    def image(self, sha256: str) -> Path:
        return self.images / sha256

    @property
    def downloads(self) -> Path:
        """Unfinished files; private, because nothing in it was verified yet."""
        return self.state / "downloads"

    @property
    def logs(self) -> Path:
        """Of what outlives the agent and the monitor, and so cannot write to their logs."""
        return self.state / "log"

    @property
    def fetch_log(self) -> Path:
        """What the downloads say."""
        return self.logs / "fetch.log"

    @property
    def wanted_images(self) -> Path:
        """Images that were asked for and are not complete, so that none is forgotten."""
        return self.state / "wanted-images"

    @property
    def refused_images(self) -> Path:
        """What was wrong with a file, so that it is not fetched again and again."""
        return self.state / "refused-images"

    @property
    def bridge(self) -> Path:
        """Which uplink is in the bridge, and a change of that while it is being made."""
        return self.state / "bridge.json"

    @property
    def networks(self) -> Path:
        """Documents of private networks."""
        return self.state / "networks"

    def network(self, network_id: int) -> Path:
        return self.networks / f"{network_id}.json"

    def removed_network(self, network_id: int) -> Path:
        """Until control knows that the network is gone."""
        return self.networks / f"{network_id}.removed.json"

    @property
    def network_fences(self) -> Path:
        """The last words about networks that are gone, against documents that come late."""
        return self.state / "network-fences"

    def network_fence(self, network_id: int) -> Path:
        return self.network_fences / f"{network_id}.json"

    @property
    def gateways(self) -> Path:
        """What the processes of private networks need; DHCP servers' users pass through."""
        return self.run / "networks"

    def gateway(self, network_id: int) -> Path:
        return self.gateways / str(network_id)

    def switch(self, network_id: int) -> Path:
        """The directory of the network's switch, where plugs have their sockets."""
        return _for_switch(self.gateway(network_id) / "switch")

    @property
    def outlets(self) -> Path:
        """Of processes that lead guests in user mode outside."""
        return self.run / "outlets"

    @property
    def outlet_log(self) -> Path:
        return self.logs / "outlets.log"

    @property
    def tap_switch(self) -> Path:
        """Of the switch that leads to the TAP which root prepared."""
        return _for_switch(self.run / "tap-switch")

    @property
    def cables(self) -> Path:
        """Files of the programs that lay cables; their user passes through."""
        return self.run / "cables"

    @property
    def cable_sockets(self) -> Path:
        """Where plugs wait for cables that are accepted; their user's alone."""
        return self.cables / "sockets"

    def cable_log(self, name: str) -> Path:
        return self.logs / f"cables-{name}.log"

    @property
    def tunnel_key(self) -> Path:
        """The private key of the host's tunnel, which never leaves it."""
        return self.state / "tunnel.key"

    @property
    def tunnel_log(self) -> Path:
        return self.logs / "tunnel.log"

    @property
    def dhcp(self) -> Path:
        """The DHCP server's own files; its user may read them."""
        return self.run / "dhcp"

    @property
    def locks(self) -> Path:
        return self.run / "locks"

    @property
    def unsent(self) -> Path:
        """One empty file for each VM whose last report did not reach the broker."""
        return self.run / "unsent"

    @property
    def inventory_seq(self) -> Path:
        """The number of the last inventory that this host made of itself."""
        return self.run / "inventory-seq"

    @property
    def bell(self) -> Path:
        """The monitor's datagram socket: who changes a VM says so here."""
        return checked_socket(self.run / "monitor")

    def vm(self, vm_id: int) -> VmPaths:
        return VmPaths(self, vm_id)


@dataclass(frozen=True)
class VmPaths:
    """The places of one VM.

    The QEMU user may enter `state`, and owns the disks and the seed in it, but not the
    directory: a guest that broke out of QEMU cannot replace the documents that root reads.
    """

    host: HostPaths
    vm_id: int

    @property
    def state(self) -> Path:
        return self.host.vms / str(self.vm_id)

    @property
    def spec(self) -> Path:
        return self.state / "spec.json"

    @property
    def removal(self) -> Path:
        return self.state / "removal.json"

    @property
    def memory(self) -> Path:
        """What the host has to remember of this VM between two looks at it."""
        return self.state / "state.json"

    @property
    def seed(self) -> Path:
        return self.state / "seed.iso"

    @property
    def seed_digest(self) -> Path:
        """Of what the seed says."""
        return self.state / "seed.sha256"

    def disk(self, index: int) -> Path:
        return self.state / f"disk-{index}.qcow2"

    @property
    def log(self) -> Path:
        """What QEMU itself says."""
        return self.state / "qemu.log"

    @property
    def run(self) -> Path:
        """Belongs to the QEMU user, nobody else may enter."""
        return self.host.run / str(self.vm_id)

    @property
    def qmp(self) -> Path:
        return checked_socket(self.run / "qmp")

    @property
    def events(self) -> Path:
        return checked_socket(self.run / "events")

    @property
    def guest_agent(self) -> Path:
        return checked_socket(self.run / "agent")

    @property
    def pid(self) -> Path:
        return self.run / "pid"

    @property
    def console(self) -> Path:
        """What the guest writes to its serial port."""
        return self.run / "console.log"

    def frames(self, index: int) -> Path:
        """Where QEMU takes frames for a NIC in user mode."""
        return checked_socket(self.run / f"frames-{index}")

    def outlet(self, index: int) -> Path:
        """The directory of the process that leads such a NIC outside; it may outlive a QEMU."""
        return self.host.outlets / f"{self.vm_id}-{index}"

    @property
    def outlets(self) -> list[Path]:
        """All that the VM may ever have had."""
        return [self.outlet(index) for index in range(MOST_NICS)]

    @property
    def lock(self) -> Path:
        """Held by whoever changes the VM or what is remembered of it."""
        return self.host.locks / f"{self.vm_id}.vm"

    @property
    def store_lock(self) -> Path:
        """Held for the moment in which a document is accepted."""
        return self.host.locks / f"{self.vm_id}.documents"

    @property
    def kick(self) -> Path:
        """Exists while somebody wants the VM looked at since its last observation began."""
        return self.host.locks / f"{self.vm_id}.kick"

    @property
    def unsent(self) -> Path:
        return self.host.unsent / str(self.vm_id)

    def tap(self, index: int) -> str:
        return tap_name(self.vm_id, index)

    @property
    def taps(self) -> list[str]:
        """All that the VM may ever have had."""
        return [self.tap(index) for index in range(MOST_NICS)]


def tap_name(vm_id: int, index: int) -> str:
    """The TAP interface of a VM's NIC: at most 15 bytes for every possible id."""
    return f"cu{_base36(vm_id)}-{index}"


def server_of(tap: str) -> int | None:
    """Whose NIC a TAP is by its name; None if it is none of ours."""
    number, dash, index = tap.removeprefix("cu").rpartition("-")
    if not (tap.startswith("cu") and dash and len(index) == 1 and index in _DIGITS[:MOST_NICS]):
        return None
    if not number or set(number) - set(_DIGITS) or number.startswith("0"):
        return None
    vm_id = int(number, 36)
    return vm_id if vm_id < 2**53 else None


def number_of(name: str) -> int | None:
    """The row id that a file or directory is named by; None for a name that was never ours."""
    if not (name.isascii() and name.isdigit() and len(name) <= 16) or name.startswith("0"):
        return None
    number = int(name)
    return number if number < 2**53 else None


def unit_name(uuid: str) -> str:
    """The systemd unit of a VM; by UUID, because several clouds may share one machine."""
    return f"cumulet-vm-{uuid}.service"


def checked_socket(path: Path) -> Path:
    """The path, or PathTooLong if no socket can be made there."""
    if len(str(path).encode()) > SOCKET_PATH_BYTES:
        raise PathTooLong(
            f"{path} is longer than {SOCKET_PATH_BYTES} bytes, the limit of a socket:"
            " set CUMULET_HOST_RUN to a shorter directory"
        )
    return path


def _for_switch(directory: Path) -> Path:
    """Every plug binds a socket there that is named by its pid, of at most seven digits."""
    checked_socket(directory / ".4194304-00000")
    return directory


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"
