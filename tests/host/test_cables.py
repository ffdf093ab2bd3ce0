"""Private networks across hosts without any privilege: switches joined by cables inside TLS, and
bridged to the mesh by a gateway.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloud.authority import Authority
from networks.host import plan, processes, rules, switches
from networks.host.cable_service import ACCEPTING
from networks.host.nft import NETDEV, asking, counters
from networks.host.switches import Switch
from tests.host.cabled_cloud import (
    CabledNetwork,
    identify,
    listeners,
    playing,
    plugged_in,
    stunnel,
)
from tests.host.private_cloud import crosses, played
from tests.host.rootless import RootlessWorld
from tests.host.wire import (
    ADVERTISEMENT,
    ARP,
    ARP_REPLY,
    BROADCAST,
    IPV4,
    Wire,
    capture,
    ip,
    mac,
)
from tests.host.world import World, until
from vms.host import facts
from vms.host.host import Host

pytestmark = [pytest.mark.private, pytest.mark.rootless]


@pytest.fixture
def hosts(cabled_hosts: list[World]) -> list[World]:
    return cabled_hosts


@pytest.fixture
def network(hosts: list[World]) -> CabledNetwork:
    """A member on each host but one, which is their gateway."""
    made = CabledNetwork(5, hub=hosts[2])
    made.placed = [
        (hosts[0], made.nic("10.0.1.11")),
        (hosts[1], made.nic("10.0.1.12")),
        (hosts[3], made.nic("10.0.1.14")),
    ]
    reports = made.tell()
    assert all(report.converged for report in reports), reports
    return made


@pytest.fixture
def guests(network: CabledNetwork) -> Iterator[list[Wire]]:
    with playing(network) as wires:
        until(lambda: crosses(wires[0], wires[1], seconds=0.2), "the cables are there")
        yield wires


def switch(world: World) -> int:
    pid = switches.find(Switch(world.host.paths.switch(5)))
    assert pid
    return pid


def test_guests_of_both_kinds_of_hosts_share_one_switch(
    hosts: list[World], network: CabledNetwork
) -> None:
    network.placed.append((hosts[2], network.nic("10.0.1.13")))
    network.tell()
    with playing(network) as guests:
        for one in guests:
            for other in guests:
                assert one is other or crosses(one, other, seconds=10)
        guests[1].send(0x88B5, guests[1].content, to=BROADCAST)
        assert all(one.hears(0x88B5, guests[1].content) for one in guests if one is not guests[1])


def test_without_a_gateway_a_host_without_privileges_joins_the_others(
    hosts: list[World],
) -> None:
    network = CabledNetwork(6, hub=hosts[1])
    network.placed = [(world, network.nic(f"10.0.1.{11 + world.number}")) for world in hosts[:2]]
    assert all(report.converged for report in network.tell())
    with playing(network) as guests:
        assert crosses(*guests)
        assert crosses(*guests[::-1])


def test_nobody_asks_far_away_who_has_an_address(guests: list[Wire]) -> None:
    guests[0].arp(sender="10.0.1.11", wanted="10.0.1.14")
    assert guests[0].hears(ARP, ARP_REPLY + mac(guests[2].nic.mac) + ip("10.0.1.14"))
    guests[2].arp(sender="10.0.1.14", wanted="10.0.1.11")
    assert guests[2].hears(ARP, ARP_REPLY + mac(guests[0].nic.mac) + ip("10.0.1.11"))
    assert not guests[0].hears(ARP, ip("10.0.1.14") + bytes(6), seconds=0.3)


def test_an_announcement_is_heard_on_all_hosts(guests: list[Wire]) -> None:
    for announcing in (guests[0], guests[2]):
        address = str(announcing.nic.ipv4)
        announcing.arp(sender=address, wanted=address)
        others = [one for one in guests if one is not announcing]
        assert all(one.hears(ARP, mac(announcing.nic.mac) + ip(address)) for one in others)


def test_a_question_for_dhcp_is_answered_by_the_gateway_and_heard_on_no_other_host(
    guests: list[Wire],
) -> None:
    guests[0].discover()
    offer = guests[0].answer(IPV4, ip("10.0.1.11") + ip("10.0.1.1"), seconds=5)
    assert offer
    assert bytes((26, 2)) + (1390).to_bytes(2, "big") in offer  # the interface's MTU
    assert bytes((16,)) + ip("10.0.0.0")[:2] + ip("10.0.1.1") in offer  # a route, RFC 3442
    assert not guests[2].hears(IPV4, mac(guests[0].nic.mac), seconds=0.5)


def test_the_gateway_is_a_router_for_guests_behind_cables(guests: list[Wire]) -> None:
    guests[0].arp(sender="10.0.1.11", wanted="10.0.1.1")
    assert guests[0].hears(ARP, ARP_REPLY)


def test_on_the_fabric_there_is_tls_and_nothing_readable(
    hosts: list[World], guests: list[Wire]
) -> None:
    one, other, *meshed = guests
    with capture(hosts[0]) as fabric:
        for to in (other, *meshed):
            one.udp(to=str(to.nic.ipv4), port=9, mac_to=to.nic.mac)
            assert to.hears(IPV4, one.content, seconds=5)
        heard = []
        fabric.settimeout(0.5)
        while len(heard) < 200:
            try:
                heard.append(fabric.recv(4096))
            except TimeoutError:
                break
    assert not any(one.content in frame for frame in heard)
    cabled = [frame for frame in heard if frame[12:14] == b"\x08\x00" and frame[23] == 6]
    said = [tcp_payload(frame) for frame in cabled]
    records = [payload for payload in said if payload]
    assert records
    assert {payload[:3] for payload in records} == {b"\x17\x03\x03"}  # application data


def tcp_payload(frame: bytes) -> bytes:
    packet = frame[14 : 14 + int.from_bytes(frame[16:18], "big")]
    return packet[20 + (packet[32] >> 4) * 4 :]


def test_nothing_of_a_cable_has_any_privilege(hosts: list[World], guests: list[Wire]) -> None:
    pids = [stunnel(hosts[0], "calling-5"), stunnel(hosts[2], ACCEPTING)]
    pids += [*listeners(hosts[2]), *processes.running("vde_plug")]
    pids += [switch(hosts[0]), switch(hosts[2])]
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        assert "\nCapEff:\t0000000000000000\n" in status
        assert "\nUid:\t0\t" not in status


@pytest.mark.parametrize("stranger", ["of another cloud", "under another name"])
def test_a_host_without_the_right_certificate_is_refused(
    hosts: list[World], network: CabledNetwork, authority: Authority, stranger: str
) -> None:
    world = hosts[0]
    assert isinstance(world, RootlessWorld)
    if stranger == "of another cloud":
        identify(world, Authority.generated())
    else:
        identify(world, authority, "h2")
    world.restart_agent()
    network.tell()
    with plugged_in(world, network.placed[0][1]) as one, played(*network.placed[2]) as other:
        assert not crosses(one, other, seconds=3)
        assert not crosses(other, one, seconds=1)
        identify(world, authority)
        world.restart_agent()
        network.tell()
        assert crosses(one, other, seconds=10)


def test_a_cable_that_the_documents_name_no_more_ends_at_the_hub_alone(
    hosts: list[World], network: CabledNetwork, guests: list[Wire]
) -> None:
    kept = stunnel(hosts[2], ACCEPTING)
    network.placed = [one for one in network.placed if one[0] is not hosts[0]]
    network.tell(hosts[2])
    assert not crosses(guests[0], guests[2], seconds=3)
    assert crosses(guests[1], guests[2])
    assert stunnel(hosts[2], ACCEPTING) == kept


def test_a_gateways_port_that_was_taken_away_is_made_again(
    hosts: list[World], network: CabledNetwork
) -> None:
    hosts[2].seen("ip", "link", "delete", plan.names(network.network_id).cables)
    assert all(report.converged for report in network.tell())
    with playing(network) as guests:
        until(lambda: crosses(guests[0], guests[2], seconds=0.2), "frames cross", seconds=20)


def test_another_hub_takes_over_and_ends_of_two_layouts_never_meet(
    hosts: list[World], network: CabledNetwork, guests: list[Wire]
) -> None:
    network.hub, network.layout = hosts[1], 2
    network.tell(hosts[0])
    # A frame that is under way crosses all the same.
    until(lambda: not crosses(guests[0], guests[1], seconds=0.5), "the old way is cut", seconds=10)
    assert not crosses(guests[0], guests[1], seconds=2)
    network.tell()
    assert crosses(guests[0], guests[1], seconds=10)
    assert crosses(guests[1], guests[0])


VICTIMS = ["calling", "accepting", "listener", "spoke's switch", "hub's switch"]


@pytest.mark.parametrize("victim", VICTIMS)
def test_what_is_killed_heals(
    hosts: list[World], network: CabledNetwork, guests: list[Wire], victim: str
) -> None:
    spoke, hub = hosts[1], hosts[2]
    pid = {
        "calling": lambda: stunnel(spoke, "calling-5"),
        "accepting": lambda: stunnel(hub, ACCEPTING),
        "listener": lambda: listeners(hub).pop(),
        "spoke's switch": lambda: switch(spoke),
        "hub's switch": lambda: switch(hub),
    }[victim]()
    os.kill(pid, signal.SIGKILL)
    with hosts[0].watched(), spoke.watched(), hub.inside(), hub.watched():
        assert crosses(guests[0], guests[2], seconds=20)
        until(lambda: switches.is_alive(Switch(spoke.host.paths.switch(5))), "it has a switch")
        # A guest's plug is put in again by its host; here nobody does that.
        with plugged_in(spoke, network.placed[1][1]) as again:  # type: ignore[arg-type]
            assert crosses(again, guests[2], seconds=20)
            assert crosses(guests[2], again)


FORGERIES = {
    "another member's MAC": ("mac", lambda guest, other: guest.send(
        0x88B5, guest.content, source=other.nic.mac, to=BROADCAST)),
    "another member's address": ("ipv4", lambda guest, other: guest.udp(
        to="10.0.1.12", port=9, sender=str(other.nic.ipv4), mac_to=BROADCAST)),
    "another member's address in ARP": ("arp", lambda guest, other: guest.arp(
        sender=str(other.nic.ipv4), wanted="10.0.1.99")),
    "an answer of a DHCP server": ("dhcp_server", lambda guest, other: guest.udp(
        to="255.255.255.255", port=68, source_port=67, mac_to=BROADCAST)),
    "a router's advertisement": ("ra", lambda guest, other: guest.icmpv6(
        134, sender=link_local(guest))),
    "another neighbour's advertisement": ("nd", lambda guest, other: guest.icmpv6(
        ADVERTISEMENT, target=link_local(other), sender=link_local(guest))),
}  # fmt: skip


def link_local(guest: Wire) -> str:
    first, *rest = (int(part, 16) for part in guest.nic.mac.split(":"))
    octets = bytes((first ^ 2, rest[0], rest[1], 0xFF, 0xFE, *rest[2:]))
    return f"fe80::{octets.hex(':', 2)}"


@pytest.mark.parametrize("name", FORGERIES)
def test_what_a_guest_behind_a_cable_forges_gets_no_further_than_the_gateway(
    hosts: list[World], guests: list[Wire], name: str
) -> None:
    reason, forge = FORGERIES[name]
    before = dropped(hosts[2])
    forge(guests[0], guests[2])
    until(lambda: dropped(hosts[2])[reason] > before[reason], "it is counted", seconds=3)
    assert not guests[2].hears(0x88B5, guests[0].content, seconds=0.2)


def dropped(world: World) -> dict[str, int]:
    with world.inside(), asking(NETDEV) as netfilter:
        found = counters(netfilter, rules.nic_table("cc5"))
    return {name.removeprefix(rules.COUNTER_PREFIX): count for name, count in found.items()}


def test_nothing_is_left_of_a_network_that_a_gateway_has_no_more(
    hosts: list[World], network: CabledNetwork
) -> None:
    gone = network.leave(hosts[2])
    assert (gone.present, gone.converged) == (False, True)
    left = hosts[2].seen("ip", "-o", "link") + hosts[2].seen("nft", "list", "tables")
    assert "cc5" not in left
    assert not hosts[2].host.paths.cables.exists()
    programs = [processes.running(name) for name in ("stunnel", "socat", "vde_plug")]
    assert not any(str(hosts[2].host.paths.run) in " ".join(words)
                   for program in programs for words in program.values())  # fmt: skip


def test_a_host_tells_whether_it_lays_cables_and_what_it_lacks(hosts: list[World]) -> None:
    spoke, hub = hosts[0], hosts[2]
    assert isinstance(spoke, RootlessWorld)
    report = spoke.facts()
    assert (report.network_mode, report.cables) == ("vde", True)
    assert report.cable_endpoint == "192.0.2.11:51821"
    assert not [problem for problem in report.problems if problem.code == "no_certificate"]
    with hub.inside():
        report = facts.host_report(hub.host)
        assert (report.cable_endpoint, report.problems) == ("192.0.2.13:51821", ())
        report = facts.host_report(Host.open(replace(hub.host.config, tls=None)))
        assert (report.cables, [one.code for one in report.problems]) == (False, ["no_certificate"])
    spoke.settings["CUMULET_HOST_NAT"] = "on"
    spoke.restart_agent()
    assert (spoke.facts().cables, spoke.facts().cable_endpoint) == (True, None)
    del spoke.settings["CUMULET_HOST_NAT"]
    spoke.restart_agent()
