"""Public addresses of real guests, seen from the outside namespace: pages, firewalls, limits.

All of it behind a host that routes, and in a host's bridge.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from pyroute2 import netns

from deploy import lab
from networks.spec import FirewallSpec, NicSpec, RuleSpec
from tests.documents import SPEC
from tests.host.conftest import a_lab, supplied_world
from tests.host.world import World, second, until
from vms.host.converge import converge
from vms.spec import ImageSpec, VmSpec

pytestmark = pytest.mark.public

ANYBODY = ("0.0.0.0/0", "::/0")
ROUTER = ("192.0.2.1/32", "2001:db8::1/128")
# Two addresses of the outside that lie in no network of the host's.
FAR, FARTHER = "203.0.113.250", "203.0.113.251"
ROUTED = structs.replace(SPEC.nics[0], ipv6="2001:db8:a:7::/64")
BRIDGED = structs.replace(
    ROUTED, mode="public_bridged", prefix4=24, gateway=lab.ROUTER, gateway6=lab.ROUTER6
)
ADDRESSES = ("198.51.100.7", "2001:db8:a:7::1")
# A page that says whose it is, an echo on port 7, and a heap of bytes.
SERVER = """#!/bin/sh
mkdir /tmp/www && hostname >/tmp/www/index.html
dd if=/dev/zero of=/tmp/www/heap bs=1M count=4 2>/dev/null
httpd -p 80 -h /tmp/www
httpd -p 8080 -h /tmp/www
nc -ll -p 7 -e cat &
nc -ll -p 9 -e sh -c 'cat >/dev/null' &
"""
SSH = RuleSpec("in", "tcp", ANYBODY, (22, 22))
WEB = RuleSpec("in", "tcp", ANYBODY, (80, 80))
ECHO = RuleSpec("in", "tcp", ROUTER, (7, 7))
PING = RuleSpec("in", "icmp", ANYBODY)


@pytest.fixture(scope="module", params=["routed", "bridged"])
def world(
    places: Path,
    micro: ImageSpec,
    image_store: Path,
    ssh_key: Path,
    request: pytest.FixtureRequest,
) -> Iterator[World]:
    """A lab of its own, because some take its uplink apart."""
    with a_lab() as made, supplied_world(places, made, micro, image_store, ssh_key) as world:
        if request.param == "bridged":
            world.become_bridged()
        yield world


@pytest.fixture(scope="module")
def guest(world: World) -> VmSpec:
    """One for all tests: what is told of its NIC is all that differs."""
    return world.boot(nics=(nic_of(world),), user_data=SERVER)


def nic_of(world: World) -> NicSpec:
    return BRIDGED if world.host.config.bridge else ROUTED


@contextmanager
def calling(
    world: World, address: str, port: int, *, patience: float = 5
) -> Iterator[socket.socket]:
    """A connection from the outside namespace; `patience` in seconds."""
    netns.pushns(world.lab.outside)
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        caller = socket.socket(family, socket.SOCK_STREAM)
    finally:
        netns.popns()
    with caller:
        caller.settimeout(patience)
        caller.connect((address, port))
        yield caller


def page(world: World, address: str, port: int = 80, path: str = "/") -> bytes:
    """What is served there; nothing if nobody answers."""
    try:
        with calling(world, address, port, patience=1) as caller:
            caller.settimeout(20)
            caller.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = b""
            while piece := caller.recv(65536):
                answer += piece
    except OSError:
        return b""
    return answer.partition(b"\r\n\r\n")[2].strip()


def serves(world: World, address: str, expected: bytes, port: int = 80) -> None:
    """A guest under TCG on a busy machine takes its time, not more."""
    until(lambda: page(world, address, port) == expected, f"{address} serves", seconds=20)


def is_open(world: World, address: str, port: int) -> bool:
    try:
        with calling(world, address, port):
            return True
    except OSError:
        return False


def echoes(caller: socket.socket, said: bytes) -> bool:
    try:
        caller.sendall(said)
        return caller.recv(len(said)) == said
    except OSError:
        return False


def serve(world: World, guest: VmSpec, **nic: Any) -> VmSpec:
    """The guest's document says this of its NIC and no more; wait until it serves."""
    spec = changed(world, guest, **nic)
    for address in ADDRESSES:
        serves(world, address, b"web-1")
    firewall = spec.nics[0].firewall
    if firewall and ECHO in firewall.rules:
        until(lambda: is_open(world, ADDRESSES[0], 7), "the guest echoes")
    return spec


def changed(world: World, spec: VmSpec, **nic: Any) -> VmSpec:
    """The same guest under its next document."""
    nics = (structs.replace(spec.nics[0], **nic),)
    spec = structs.replace(spec, generation=world.told(spec).generation + 1, nics=nics)
    report = world.ensure(spec)
    assert report.converged, report
    return spec


def pings(world: World, address: str) -> bool:
    return ", 1 received" in world.outside("ping", "-c1", "-W1", address, ok=range(2))


def reaches(world: World, spec: VmSpec, address: str) -> bool:
    """Whether the guest gets an answer from there."""
    return "yes" in world.ssh(spec, f"ping -c3 -W2 {address} >/dev/null && echo yes; true").stdout


@pytest.fixture
def far(world: World) -> Iterator[None]:
    for address in (FAR, FARTHER):
        world.outside("ip", "address", "add", address, "dev", "lo")
    yield
    for address in (FAR, FARTHER):
        world.outside("ip", "address", "del", address, "dev", "lo")


def test_two_guests_of_a_host_both_serve_port_80_in_both_families(
    world: World, guest: VmSpec
) -> None:
    first = serve(world, guest)
    other = second(first)
    closed = FirewallSpec((SSH, WEB))
    nic9 = structs.replace(other.nics[0], ipv6="2001:db8:a:9::/64", firewall=closed)
    other = structs.replace(other, nics=(nic9,), hostname="web-2")
    assert world.ensure(other).converged
    world.wait_for_boots(other, 1)
    pages = {
        "198.51.100.7": b"web-1",
        "2001:db8:a:7::1": b"web-1",
        "198.51.100.9": b"web-2",
        "2001:db8:a:9::1": b"web-2",
    }
    for address, expected in pages.items():
        serves(world, address, expected)
    fetched = world.ssh(first, "wget -q -O - http://198.51.100.9/").stdout.strip()
    assert fetched == "web-2"
    assert not pings(world, "198.51.100.9")  # its firewall is there from its start
    # Of a host that routes, its own MAC alone is seen outside.
    assert (first.nics[0].mac in world.outside("ip", "neigh")) is world.host.config.bridge
    assert not world.remove(other, generation=10**9).present


def test_a_floating_address_comes_and_goes_while_the_guest_runs(
    world: World, guest: VmSpec
) -> None:
    spec = serve(world, guest)
    process = world.process(spec)
    floating = ("203.0.113.77", "2001:db8:a:77::1")
    spec = changed(world, spec, floating=(floating[0], "2001:db8:a:77::/64"))
    world.ssh(
        spec, f"ip address add {floating[0]}/32 dev eth0; ip address add {floating[1]}/64 dev eth0"
    )
    for address in floating:
        serves(world, address, b"web-1")
    spec = changed(world, spec, floating=())
    assert not any(page(world, address) for address in floating)
    serves(world, ADDRESSES[1], b"web-1")
    assert world.process(spec) == process
    for address in (f"{floating[0]}/32", f"{floating[1]}/64"):
        world.ssh(spec, f"ip address del {address} dev eth0")


def test_a_firewall_lets_in_what_its_rules_say_and_no_more(
    world: World, guest: VmSpec, far: None
) -> None:
    spec = serve(world, guest, firewall=FirewallSpec((SSH, WEB)))
    process = world.process(spec)
    for address in ADDRESSES:
        assert page(world, address, 8080) == b""
        assert not pings(world, address)
    # Answers to what the guest itself asks for come in.
    assert reaches(world, spec, FAR)
    spec = changed(world, spec, firewall=FirewallSpec((SSH, PING, ECHO)))
    for address in ADDRESSES:
        assert page(world, address) == b""
        assert pings(world, address)
    spec = changed(world, spec, firewall=None)
    for address in ADDRESSES:
        serves(world, address, b"web-1", 8080)
    assert world.process(spec) == process


def test_rules_for_going_out_close_everything_else(world: World, guest: VmSpec, far: None) -> None:
    allowed = RuleSpec("out", "icmp", (f"{FAR}/32",))
    spec = serve(world, guest, firewall=FirewallSpec((SSH, WEB, allowed)))
    assert reaches(world, spec, FAR)
    assert not reaches(world, spec, FARTHER)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_change_keeps_connections_that_are_allowed_and_cuts_the_others(
    world: World, guest: VmSpec, address: str
) -> None:
    spec = serve(world, guest, firewall=FirewallSpec((SSH, WEB, ECHO)))
    with calling(world, address, 7) as caller:
        assert echoes(caller, b"before")
        spec = changed(world, spec, firewall=FirewallSpec((ECHO, SSH)))
        assert echoes(caller, b"allowed")
        spec = changed(world, spec, firewall=FirewallSpec((SSH, WEB)))
        assert not echoes(caller, b"forbidden")
        serves(world, address, b"web-1")


def test_a_limit_holds_in_both_directions_and_is_changed_while_the_guest_runs(
    world: World, guest: VmSpec
) -> None:
    spec = serve(world, guest, mbit_in=16, mbit_out=16)
    download(world)  # empties the second's worth that a guest at rest has saved up
    assert 8 < download(world) < 20
    assert 8 < upload(world) < 20
    spec = changed(world, spec, mbit_in=None, mbit_out=None)
    assert download(world) > 30
    assert upload(world) > 30


def test_forged_packets_are_told_with_the_next_report_and_cause_none(
    world: World, guest: VmSpec
) -> None:
    spec = serve(world, guest)
    forge = "ip address add 203.0.113.99/32 dev eth0; ping -c2 -W1 -I 203.0.113.99 203.0.113.200"
    converge(world.host, spec.vm_id, world.send)  # tells of the guest's first sign of life
    before, told = dropped(world), len(world.reports)
    world.ssh(spec, f"{forge}; true")
    converge(world.host, spec.vm_id, world.send, insist=False)
    assert len(world.reports) == told
    converge(world.host, spec.vm_id, world.send)
    assert dropped(world) >= before + 2


def dropped(world: World) -> int:
    """Packets under a foreign address, as the last report of all tells them."""
    (nic,) = world.reports[-1].nics
    return nic.dropped["ipv4"]


def download(world: World) -> float:
    """Mbit/s from the guest."""
    began = time.monotonic()
    size = len(page(world, ADDRESSES[0], path="/heap"))
    return size * 8 / 1e6 / (time.monotonic() - began)


def upload(world: World) -> float:
    """Mbit/s towards the guest."""
    heap = bytes(4 * 1024 * 1024)
    began = time.monotonic()
    with calling(world, ADDRESSES[0], 9) as caller:
        caller.settimeout(20)
        caller.sendall(heap)
        caller.shutdown(socket.SHUT_WR)
        assert caller.recv(1) == b""
    return len(heap) * 8 / 1e6 / (time.monotonic() - began)
