"""Guests in the host's bridge: outside they are machines of their own, and no more than that."""

from __future__ import annotations

import secrets
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import structs
from pyroute2 import netns

from cloud import shell
from deploy import lab
from deploy.lab import Lab
from networks.host import bridge_firewall, dhcp, nft, nics
from networks.host.bridge_plan import BRIDGE
from networks.host.links import Tap
from networks.spec import NicSpec, Presence
from tests.documents import SPEC
from tests.host import frames
from tests.host.frames import Port
from tests.host.world import World, second, until
from vms.host import seed
from vms.spec import PowerGoal, VmSpec

pytestmark = pytest.mark.public

NAME = "cu7-0"
NIC: NicSpec = structs.replace(
    SPEC.nics[0],
    mode="public_bridged",
    prefix4=24,
    gateway=lab.ROUTER,
    ipv6="2001:db8:aa::7/128",
    gateway6="2001:db8:aa::1",
)
MAC = NIC.mac
OWN = "198.51.100.7"
OWN6, LINK_LOCAL = "2001:db8:aa::7", "fe80::ff:fe00:7"
FOREIGN, FOREIGN6 = "198.51.100.99", "2001:db8:aa::99"
FOREIGN_MAC = "02:00:00:00:00:99"
LEASED = "203.0.113.200"


@pytest.fixture
def host_lab(own_lab: Lab) -> Lab:
    return own_lab


@pytest.fixture
def bare_world(bare_world: World) -> World:
    """A bridged host."""
    bare_world.become_bridged()
    return bare_world


@pytest.fixture
def outside(bare_world: World) -> Iterator[socket.socket]:
    """Hears every frame that comes out of the host."""
    netns.pushns(bare_world.lab.outside)
    try:
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        listener.bind((lab.BRIDGE, 0))
    finally:
        netns.popns()
    with listener:
        yield listener


@pytest.fixture
def port(bare_world: World, request: pytest.FixtureRequest) -> Iterator[Port]:
    """A guest's end of a bridged TAP; the NIC is the test's parameter."""
    tap = Tap(NAME, getattr(request, "param", NIC), None)
    nics.ensure_nics([tap], bare_world.host.surroundings)
    with frames.opened(NAME) as opened:
        until(lambda: "LOWER_UP" in bare_world.seen("ip", "link", "show", NAME), "the link is up")
        yield opened
    nics.remove_nics([NAME], [], bare_world.host.surroundings)


DHCP_NIC: NicSpec = structs.replace(NIC, ipv4=None, ipv6=None, dhcp=True)
LAN_NIC: NicSpec = structs.replace(
    DHCP_NIC, gateway="203.0.113.1", leased_from="203.0.113.0/24", floating=(OWN,)
)
fed_by_dhcp = pytest.mark.parametrize("port", [DHCP_NIC], indirect=True)


def arrives(outside: socket.socket, sent: bytes, *, seconds: float = 0.4) -> bool:
    # A tag is taken off on the way, and so may be what only fills the frame up.
    needle = sent[16:].rstrip(b"\0")
    outside.settimeout(0.05)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if needle in outside.recv(4096):
                return True
        except TimeoutError:
            continue
    return False


def dropped(world: World) -> dict[str, int]:
    """Frames by reason, as the kernel counted them."""
    lines = world.seen("nft", "list", "counters", "netdev").split("counter forged_")[1:]
    return {line.split()[0]: int(line.split("packets ")[1].split()[0]) for line in lines}


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(frames.udp4(MAC, OWN), id="IPv4"),
        pytest.param(frames.arp(MAC, OWN), id="ARP"),
        pytest.param(frames.arp(MAC, "0.0.0.0", wanted=OWN), id="ARP probe"),
        pytest.param(frames.udp6(MAC, OWN6), id="IPv6"),
        pytest.param(frames.udp6(MAC, LINK_LOCAL), id="link-local"),
        pytest.param(frames.advertisement(MAC, OWN6, OWN6), id="neighbour advertisement"),
        pytest.param(frames.udp4(MAC, "0.0.0.0", ports=(68, 67)), id="DHCP client"),
    ],
)
def test_what_is_the_guest_s_own_is_heard_outside(
    port: Port, outside: socket.socket, sent: bytes
) -> None:
    port.send(sent)
    assert arrives(outside, sent, seconds=3)


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("mac", frames.udp4(FOREIGN_MAC, OWN)),
        ("ipv4", frames.udp4(MAC, FOREIGN)),
        ("ipv6", frames.udp6(MAC, FOREIGN6)),
        ("ipv6", frames.udp6(MAC, "fe80::1")),
        ("arp", frames.arp(MAC, FOREIGN)),
        ("arp", frames.arp(MAC, "0.0.0.0", wanted=FOREIGN)),
        ("arp", frames.arp(MAC, OWN, claims=FOREIGN_MAC)),
        ("nd", frames.advertisement(MAC, OWN6, FOREIGN6)),
        ("dhcp_server", frames.udp4(MAC, OWN, ports=(67, 68))),
        ("dhcp_server", frames.udp6(MAC, LINK_LOCAL, ports=(547, 546))),
        ("dhcp_server", frames.udp4(MAC, OWN, ports=(1067, 68))),
        ("dhcp_server", frames.udp6(MAC, LINK_LOCAL, ports=(1547, 546))),
        ("ra", frames.router(MAC, LINK_LOCAL)),
        ("protocol", frames.tagged(frames.udp4(MAC, OWN), 5)),
    ],
    ids=[
        *("MAC", "IPv4", "IPv6", "another's link-local", "ARP sender", "ARP probe"),
        *("MAC in ARP", "neighbour"),
        *("DHCP server", "DHCPv6 server", "DHCP server at another port"),
        *("DHCPv6 server at another port", "router", "VLAN tag"),
    ],
)
def test_what_is_forged_is_heard_by_nobody_and_counted(
    bare_world: World, port: Port, outside: socket.socket, reason: str, sent: bytes
) -> None:
    before = dropped(bare_world)
    port.send(sent)
    assert not arrives(outside, sent)
    after = dropped(bare_world)
    changed = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert changed == {reason: 1}


def test_the_counts_outlive_a_change_of_the_rules(bare_world: World, port: Port) -> None:
    port.send(frames.udp4(MAC, FOREIGN))
    until(lambda: dropped(bare_world)["ipv4"], "it was counted")
    nics.ensure_nics([Tap(NAME, NIC, None)], bare_world.host.surroundings)
    assert dropped(bare_world)["ipv4"] == 1


@contextmanager
def listening(namespace: str) -> Iterator[socket.socket]:
    """For what comes to port 9."""
    netns.pushns(namespace)
    try:
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    finally:
        netns.popns()
    with listener:
        listener.bind(("", 9))
        yield listener


def comes(listener: socket.socket, *, seconds: float) -> bool:
    listener.settimeout(seconds)
    try:
        return listener.recv(64) == frames.NEEDLE
    except TimeoutError:
        return False


@pytest.mark.parametrize("to", [lab.uplink_address(1), lab.ROUTER])
def test_the_host_itself_is_closed_to_guests_and_no_way_past_it(
    bare_world: World, port: Port, to: str
) -> None:
    """Sent to the host's MAC, to itself and to be routed by it.

    Without the rules of the bridge the same packet comes there.
    """
    bare_world.seen("sysctl", "-qw", "net.ipv4.ip_forward=1")
    namespace = bare_world.lab.outside if to == lab.ROUTER else bare_world.namespace
    bridge_mac = bare_world.seen("ip", "-o", "link", "show", BRIDGE).split("ether ")[1].split()[0]
    aimed = frames.mac(bridge_mac) + frames.udp4(MAC, OWN, to=to)[6:]
    with listening(namespace) as listener:
        port.send(aimed)
        assert not comes(listener, seconds=0.5)
        nft.apply(bridge_firewall.no_host_rules())
        port.send(aimed)
        assert comes(listener, seconds=3)


@fed_by_dhcp
def test_until_an_address_is_known_any_may_be_used_but_no_server_s_part_be_played(
    port: Port, outside: socket.socket
) -> None:
    free = [
        frames.udp4(MAC, FOREIGN),
        frames.arp(MAC, "0.0.0.0", wanted=FOREIGN),
        frames.arp(MAC, FOREIGN),
        frames.udp6(MAC, LINK_LOCAL),
    ]
    for sent in free:
        port.send(sent)
        assert arrives(outside, sent, seconds=3)
    forged = [
        frames.udp4(FOREIGN_MAC, FOREIGN),
        frames.udp4(MAC, FOREIGN, ports=(67, 68)),
        frames.router(MAC, LINK_LOCAL),
        frames.udp6(MAC, "fe80::1"),
    ]
    for sent in forged:
        port.send(sent)
        assert not arrives(outside, sent)


@fed_by_dhcp
@pytest.mark.parametrize("taken", [lab.uplink_address(1), lab.ROUTER], ids=["host", "gateway"])
def test_the_host_s_own_address_and_the_gateway_s_are_never_free(
    port: Port, outside: socket.socket, taken: str
) -> None:
    for sent in (frames.udp4(MAC, taken), frames.arp(MAC, taken)):
        port.send(sent)
        assert not arrives(outside, sent)


@pytest.mark.parametrize("port", [LAN_NIC], indirect=True)
def test_no_address_is_used_that_cannot_have_been_given(port: Port, outside: socket.socket) -> None:
    """Nor one that others have; a floating one is the guest's all along."""
    for address in (LEASED, OWN):
        for sent in (frames.udp4(MAC, address), frames.arp(MAC, address)):
            port.send(sent)
            assert arrives(outside, sent, seconds=3)
    for address in (LAN_NIC.gateway, FOREIGN):
        for sent in (frames.udp4(MAC, address), frames.arp(MAC, address)):
            port.send(sent)
            assert not arrives(outside, sent)


@pytest.fixture
def outside_dhcp(bare_world: World, places: Path) -> Iterator[None]:
    """The outside network gives addresses itself."""
    home = places / secrets.token_hex(3)
    home.mkdir()
    enter = bare_world.lab.enter(bare_world.lab.outside)
    shell.run([*enter, "ip", "address", "add", "203.0.113.1/24", "dev", lab.BRIDGE], timeout=5)
    server = shell.spawn(
        [
            *(*enter, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0"),
            *(f"--interface={lab.BRIDGE}", "--bind-interfaces", "--no-ping", "--user=root"),
            *(f"--dhcp-range={LEASED},{LEASED},255.255.255.0,1h", "--dhcp-authoritative"),
            *("--dhcp-option=option:router,203.0.113.1", f"--dhcp-leasefile={home / 'leases'}"),
            f"--pid-file={home / 'pid'}",
        ],
        log=home / "log",
    )
    yield
    server.terminate()
    server.wait(10)


WEB = "#!/bin/sh\nmkdir -p /www\necho {page} > /www/index.html\nhttpd -p 80 -h /www\n"


def page(world: World, address: str) -> str:
    enter = world.lab.enter(world.lab.outside)
    fetch = ["curl", "--silent", "--max-time", "3", f"http://{address}:80"]
    return shell.run([*enter, *fetch], timeout=10, ok=range(256)).stdout.strip()


def bridged(spec: VmSpec, nic: NicSpec) -> VmSpec:
    """The VM with such a NIC, and its hostname as its page."""
    one = spec.nics[0]
    given = structs.replace(nic, nic_id=one.nic_id, mac=one.mac, ipv4=nic.ipv4 and one.ipv4)
    if nic.mode == "public_routed":
        given = one
    return structs.replace(
        spec,
        uuid=str(uuid.uuid4()),
        nics=(structs.replace(given, ipv6=None),),
        user_data=WEB.format(page=spec.hostname),
    )


def test_two_servers_on_one_host_answer_on_port_80_with_their_own_pages(world: World) -> None:
    specs = [bridged(world.spec(), NIC), bridged(second(world.spec(hostname="web-2")), NIC)]
    for spec in specs:
        world.ensure(spec)
    for spec, address in zip(specs, ("198.51.100.7", "198.51.100.9"), strict=True):
        until(lambda a=address, s=spec: page(world, a) == s.hostname, f"{address} answers")
    assert nics.presence(world.host.taps(specs[0]), world.host.surroundings) is Presence.ALL


def test_the_outside_network_gives_the_address_and_the_host_learns_it(
    world: World, outside_dhcp: None
) -> None:
    spec = bridged(world.spec(), DHCP_NIC)
    with world.watched():
        world.ensure(spec)
        until(lambda: page(world, LEASED) == "web-1", "it answers at the address that it was given")
        until(lambda: LEASED in world.told(spec).nics[0].learned, "control knows", seconds=5)
    # From now on this is its own, and no other.
    before = dropped(world)["arp"]
    forge = f"ip address add {FOREIGN}/32 dev eth0; arping -c 1 -s {FOREIGN} -I eth0 {lab.ROUTER}"
    world.ssh_at(LEASED, f"{forge}; true")
    assert dropped(world)["arp"] > before
    assert world.ensure(spec).nics[0].learned[0] == LEASED


@pytest.mark.parametrize("mode", ["public_routed", "public_bridged"])
def test_a_guest_without_a_seed_gets_the_same_address_by_dhcp(world: World, mode: str) -> None:
    spec = bridged(world.spec(), structs.replace(NIC, mode=mode))
    world.ensure(structs.replace(spec, power=PowerGoal.OFF))
    texts = {name: text for name, text in seed.texts(spec).items() if name != "network-config"}
    world.host.paths.vm(7).seed.write_bytes(seed.iso(texts))
    spec = structs.replace(spec, generation=4)
    world.ensure(spec)
    until(lambda: page(world, OWN) == "web-1", "it answers at its address")
    assert "mtu 1500" in world.ssh(spec, "ip link show eth0").stdout


def test_the_dhcp_server_is_started_again_and_outlives_the_monitor(world: World) -> None:
    world.ensure(world.spec(uuid=str(uuid.uuid4())))
    place = world.host.paths.dhcp
    first = dhcp.find(place)
    assert first
    with world.watched():
        shell.run(["kill", "-9", str(first)], timeout=5)
        until(lambda: dhcp.find(place) not in (None, first), "another one runs", seconds=10)
    running = dhcp.find(place)
    assert running
    (place / "pid").unlink()
    assert dhcp.find(place) == running
    status = Path(f"/proc/{running}/status").read_text()
    assert "Uid:\t0" not in status
    assert "CapEff:\t0000000000001000" in status  # CAP_NET_ADMIN
