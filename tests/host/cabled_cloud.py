"""Hosts of both kinds in one private network, joined as control would join them; see
`tests.host.private_cloud`.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from cloud.authority import Authority
from deploy import accounts, lab
from networks.host import processes
from networks.spec import CableSpec, CablesSpec, MemberSpec, NetworkSpec, NicSpec
from tests.host.private_cloud import Network, played
from tests.host.rootless import RootlessWorld
from tests.host.wire import Wire
from tests.host.world import World
from vms.host.host import Host

PORT = 51821


def name_of(world: World) -> str:
    return world.host.config.name


def identify(world: World, authority: Authority, name: str | None = None) -> None:
    """Give the host a certificate, as its join bundle would; of its own name if nothing is said."""
    tls = authority.identify(name or name_of(world))
    if not isinstance(world, RootlessWorld):
        world.host = Host.open(replace(world.host.config, tls=tls))
        return
    path = world.host.config.state_dir.parent / "bundle.json"
    bundle = json.loads(path.read_text())
    bundle["tls"] = {name: getattr(tls, name) for name in ("authority", "certificate", "key")}
    accounts.write_for(path, json.dumps(bundle), accounts.ROOTLESS)


def stunnel(world: World, name: str) -> int:
    pid = processes.find("stunnel", str(world.host.paths.cables / f"{name}.conf"))
    assert pid
    return pid


def listeners(world: World) -> list[int]:
    """What has a plug for each cable that is accepted."""
    place = str(world.host.paths.cable_sockets)
    return [pid for pid, words in processes.running("socat").items() if place in words[0]]


@dataclass
class CabledNetwork(Network):
    """`hub`: where all cables end; a host of the mesh is the gateway."""

    hub: World | None = None
    layout: int = 1

    @property
    def hosts(self) -> list[World]:
        """The hub first, which need not have a member."""
        assert self.hub
        return [self.hub, *(one for one in super().hosts if one is not self.hub)]

    def spec(self, world: World, **more: Any) -> NetworkSpec:
        assert self.hub
        rootless = [one for one in self.hosts if isinstance(one, RootlessWorld)]
        spokes = [one for one in rootless if one is not self.hub]
        cables = None
        if world is self.hub:
            cables = CablesSpec(self.layout, accepts=tuple(map(name_of, spokes)))
        elif world in spokes:
            there = CableSpec(name_of(self.hub), f"{lab.uplink_address(self.hub.number)}:{PORT}")
            cables = CablesSpec(self.layout, uplink=there)
        if world in rootless:
            return NetworkSpec(
                network_id=self.network_id,
                host_uuid=world.host.uuid,
                generation=self.generation,
                vni=self.network_id,
                ip_range="10.0.0.0/16",
                mtu=1390,
                cables=cables,
            )
        meshed = [one for one in self.hosts if one not in rootless]
        plain = Network(self.network_id, self.settings, list(self.placed), self.generation)
        plain.placed = [one for one in self.placed if one[0] in meshed]
        if self.hub in meshed and self.hub not in plain.hosts:
            plain.placed.append((self.hub, self.nic("10.0.2.250")))  # so that it is a peer
        basis = plain.spec(world, **more)
        places = {one.number: (self.hub if one in rootless else one) for one in self.hosts}
        members = tuple(
            MemberSpec(nic.mac, places[one.number].host.uuid, (str(nic.ipv4), *nic.floating))
            for one, nic in self.placed
        )
        return structs.replace(basis, members=members, cables=cables, mtu=1390)


@contextmanager
def plugged_in(world: RootlessWorld, nic: NicSpec) -> Iterator[Wire]:
    """A guest that a test plays itself, at a plug in the network's switch."""
    assert nic.network_id
    place = world.host.paths.switch(nic.network_id)
    user = ("setpriv", f"--reuid={accounts.ROOTLESS}", f"--regid={accounts.ROOTLESS}")
    command = [*user, "--clear-groups", "vde_plug", f"vde://{place}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    plug = subprocess.Popen(command, bufsize=0, **pipes)  # type: ignore[call-overload]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    relays = [threading.Thread(target=relay, args=(plug, theirs)) for relay in (_send, _receive)]
    for relay in relays:
        relay.start()
    try:
        yield Wire(ours.fileno(), nic)
    finally:
        ours.close()
        plug.kill()
        for relay in relays:
            relay.join()
        theirs.close()
        plug.stdin.close()
        plug.stdout.close()
        plug.wait()


@contextmanager
def playing(network: CabledNetwork) -> Iterator[list[Wire]]:
    """All members, each in the way of its host."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                plugged_in(world, nic) if isinstance(world, RootlessWorld) else played(world, nic)
            )
            for world, nic in network.placed
        ]


def _send(plug: subprocess.Popen[bytes], frames: socket.socket) -> None:
    """Frames in VDE's stream have their length before them."""
    assert plug.stdin
    with suppress(OSError):
        while frame := frames.recv(4096):
            plug.stdin.write(struct.pack("!H", len(frame)) + frame)


def _receive(plug: subprocess.Popen[bytes], frames: socket.socket) -> None:
    assert plug.stdout
    with suppress(OSError):
        while len(head := _exactly(plug.stdout, 2)) == 2:
            frames.send(_exactly(plug.stdout, struct.unpack("!H", head)[0]))


def _exactly(stream: Any, count: int) -> bytes:
    read = b""
    while len(read) < count and (chunk := stream.read(count - len(read))):
        read += chunk
    return read
