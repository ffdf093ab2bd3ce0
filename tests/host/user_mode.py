"""What tests of hosts without privileges share: networks of theirs, and ears in the world."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pyroute2 import netns

from networks.host import outlets, switches
from networks.host.switches import Switch
from networks.spec import NetworkSpec, NicSpec, SubnetSpec
from tests.host.rootless import RootlessWorld
from tests.host.world import World, until
from vms.spec import VmSpec

NETWORK = 5


def network(world: World, **changes: object) -> NetworkSpec:
    """As control tells a host in user mode: neither members nor a part in the mesh."""
    return NetworkSpec(
        network_id=NETWORK,
        host_uuid=world.host.uuid,
        generation=1,
        vni=NETWORK,
        ip_range="10.0.0.0/16",
        subnets=(SubnetSpec("10.0.1.0/24", "10.0.1.1"),),
        **changes,  # type: ignore[arg-type]
    )


def private_nic(number: int) -> NicSpec:
    """In the network, with the address 10.0.1.`number`."""
    return NicSpec(
        nic_id=100 + number,
        index=1,
        mac=f"02:00:05:00:01:{number:02x}",
        mode="private",
        ipv4=f"10.0.1.{number}",
        prefix4=24,
        gateway="10.0.1.1",
        network_id=NETWORK,
    )


def switch_pid(world: World) -> int:
    pid = switches.find(Switch(world.host.paths.switch(NETWORK)))
    assert pid
    return pid


def outlet_pid(world: World, spec: VmSpec) -> int:
    pid = outlets.find(world.host.paths.vm(spec.vm_id).outlet(0))
    assert pid
    return pid


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def says(world: RootlessWorld, spec: VmSpec, command: str) -> str:
    return str(world.ssh(spec, command).stdout)


def pings(world: RootlessWorld, spec: VmSpec, address: str) -> bool:
    return "yes" in says(world, spec, f"ping -c2 -W1 {address} >/dev/null && echo yes; true")


@dataclass
class Ears:
    """Services that note who called them; nobody has to accept a call for that."""

    sockets: dict[tuple[str, int, str], socket.socket] = field(default_factory=dict)

    @property
    def heard(self) -> set[tuple[str, int, str]]:
        """Address, port and protocol of all that were called since the last look."""
        return {key for key, ear in self.sockets.items() if _was_called(ear)}


@contextmanager
def listening(places: dict[str, list[tuple[str, int]]]) -> Iterator[Ears]:
    """Ears on TCP and UDP, by network namespace."""
    ears = Ears()
    with ExitStack() as stack:
        for namespace, endpoints in places.items():
            netns.pushns(namespace)
            try:
                for address, port in endpoints:
                    for kind, name in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
                        family = socket.AF_INET6 if ":" in address else socket.AF_INET
                        ear = stack.enter_context(socket.socket(family, kind))
                        _bind(ear, address, port)
                        ear.setblocking(False)
                        if kind is socket.SOCK_STREAM:
                            ear.listen()
                        ears.sockets[address, port, name] = ear
            finally:
                netns.popns()
        yield ears


def _bind(ear: socket.socket, address: str, port: int) -> None:
    """An IPv6 address that is new on a link is nobody's until its neighbours did not object."""

    def bound() -> bool:
        try:
            ear.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            return False
        return True

    until(bound, f"{address} may be used", seconds=5)


def _was_called(ear: socket.socket) -> bool:
    with suppress(BlockingIOError):
        if ear.type is socket.SOCK_STREAM:
            ear.accept()[0].close()
        else:
            ear.recv(1)
        return True
    return False
