"""What a guest in user mode may send: frames of a real guest, and those of one that tries."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Network

import pytest

from networks.host.outside_filter import (
    FRAGMENT,
    MALFORMED,
    PROTECTED,
    PROTOCOL,
    RESOLVER,
    Filter,
    Forwarded,
    Inside,
)

INSIDE = Inside(IPv4Network("10.0.2.0/24"), IPv4Address("10.0.2.2"), IPv4Address("10.0.2.3"))
GUEST, NEIGHBOUR, BROKER, FAR = "10.0.2.15", "192.0.2.7", "203.0.113.250", "198.51.100.9"
ICMP, TCP, UDP, GRE = 1, 6, 17, 47
SYN, ACK, SYN_ACK = 0x02, 0x10, 0x12
MORE_FRAGMENTS = 0x2000


def a_filter(**ports: int) -> Filter:
    protected = (IPv4Network("192.0.2.0/24"), IPv4Network(f"{BROKER}/32"))
    forwarded = Forwarded(**{name: frozenset({port}) for name, port in ports.items()})
    return Filter(INSIDE, protected, forwarded)


def ethernet(kind: int, payload: bytes) -> bytes:
    return bytes(12) + struct.pack("!H", kind) + payload


def ip(
    protocol: int, to: str, payload: bytes = bytes(8), *, sender: str = GUEST, fragment: int = 0
) -> bytes:
    ends = IPv4Address(sender).packed + IPv4Address(to).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, fragment, 64, protocol, 0)
    return ethernet(0x0800, head + ends + payload)


def tcp(to: str, port: int, *, source: int = 40000, flags: int = SYN, fragment: int = 0) -> bytes:
    segment = struct.pack("!HHIIBBHHH", source, port, 1, 0, 0x50, flags, 1000, 0, 0)
    return ip(TCP, to, segment, fragment=fragment)


def udp(
    to: str, port: int, *, source: int = 40000, fragment: int = 0, sender: str = GUEST
) -> bytes:
    datagram = struct.pack("!HHHH", source, port, 8, 0)
    return ip(UDP, to, datagram, fragment=fragment, sender=sender)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(ethernet(0x0806, bytes(28)), id="ARP"),
        pytest.param(udp("255.255.255.255", 67, source=68), id="DHCP, broadcast"),
        pytest.param(udp("10.0.2.2", 67, source=68), id="DHCP, renewed"),
        pytest.param(ip(ICMP, "10.0.2.2"), id="ping of the gateway"),
        pytest.param(udp("10.0.2.3", 53), id="a name"),
        pytest.param(tcp("10.0.2.3", 53), id="a long name"),
        pytest.param(tcp(FAR, 443), id="TCP to the world"),
        pytest.param(udp(FAR, 123), id="UDP to the world"),
        pytest.param(ip(ICMP, FAR), id="ping of the world"),
    ],
)
def test_what_a_guest_needs_passes(frame: bytes) -> None:
    assert a_filter().reason(frame) is None


@pytest.mark.parametrize(
    "to",
    [
        pytest.param("127.0.0.1", id="loopback"),
        pytest.param("127.9.9.9", id="more loopback"),
        pytest.param("0.0.0.0", id="this host"),
        pytest.param("169.254.169.254", id="link-local"),
        pytest.param("224.0.0.1", id="multicast"),
        pytest.param("240.0.0.1", id="reserved"),
        pytest.param("255.255.255.255", id="broadcast"),
        pytest.param("10.0.2.2", id="the gateway, which stands for the host"),
        pytest.param("10.0.2.4", id="nobody in the guest's own network"),
        pytest.param("10.0.2.255", id="its broadcast"),
        pytest.param(NEIGHBOUR, id="the host's network"),
        pytest.param(BROKER, id="the broker"),
    ],
)
@pytest.mark.parametrize("make", [tcp, udp])
def test_nothing_near_the_host_is_called(make: type, to: str) -> None:
    assert a_filter().reason(make(to, 5672)) == PROTECTED
    assert a_filter(tcp=22, udp=53).reason(make(to, 5672)) == PROTECTED


@pytest.mark.parametrize("port", [22, 67, 80, 5672])
def test_the_resolver_is_asked_for_names_only(port: int) -> None:
    assert a_filter().reason(tcp("10.0.2.3", port)) == RESOLVER
    assert a_filter().reason(udp("10.0.2.3", port)) == RESOLVER
    assert a_filter().reason(ip(ICMP, "10.0.2.3")) == RESOLVER


@pytest.mark.parametrize("fragment", [MORE_FRAGMENTS, 1, MORE_FRAGMENTS | 1])
@pytest.mark.parametrize("to", [FAR, NEIGHBOUR, "10.0.2.2", "10.0.2.3"])
def test_no_fragment_reaches_the_program_that_would_take_it_apart(to: str, fragment: int) -> None:
    own = a_filter(tcp=22, udp=53)
    assert own.reason(udp(to, 53, fragment=fragment)) == FRAGMENT
    assert own.reason(tcp(to, 50000, source=22, flags=ACK, fragment=fragment)) == FRAGMENT
    assert own.reason(ip(ICMP, to, fragment=fragment)) == FRAGMENT


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        pytest.param(ethernet(0x86DD, bytes(40)), PROTOCOL, id="IPv6"),
        pytest.param(ethernet(0x8100, bytes(40)), PROTOCOL, id="a VLAN"),
        pytest.param(ethernet(0x88F8, bytes(40)), PROTOCOL, id="NC-SI"),
        pytest.param(ip(GRE, FAR), PROTOCOL, id="neither TCP, UDP nor ICMP"),
        pytest.param(ethernet(0x0800, bytes((0x46,)) + bytes(60)), MALFORMED, id="a source route"),
        pytest.param(ethernet(0x0800, bytes((0x55,)) + bytes(60)), MALFORMED, id="no version 4"),
        pytest.param(ip(TCP, FAR)[:30], MALFORMED, id="half a header"),
        pytest.param(b"", PROTOCOL, id="nothing"),
    ],
)
def test_what_is_no_plain_packet_is_dropped(frame: bytes, reason: str) -> None:
    assert a_filter().reason(frame) == reason


def test_who_called_a_forwarded_port_is_answered_wherever_that_is() -> None:
    own = a_filter(tcp=22)
    assert own.reason(tcp(NEIGHBOUR, 50000, source=22, flags=SYN_ACK)) is None
    assert own.reason(tcp("10.0.2.2", 50000, source=22, flags=ACK)) is None


def test_an_answer_is_no_way_to_call() -> None:
    own = a_filter(tcp=22)
    assert own.reason(tcp(NEIGHBOUR, 5672, source=22, flags=SYN)) == PROTECTED
    assert own.reason(tcp(NEIGHBOUR, 5672, source=23, flags=ACK)) == PROTECTED
    assert own.reason(tcp(NEIGHBOUR, 5672, source=22, flags=ACK)[:40]) == PROTECTED


def test_of_udp_those_are_answered_who_called() -> None:
    own = a_filter(udp=53)
    answer = udp(NEIGHBOUR, 50000, source=53)
    assert own.reason(answer) == PROTECTED
    own.note(udp(GUEST, 53, source=50000, sender=NEIGHBOUR))
    assert own.reason(answer) is None
    assert own.reason(udp(NEIGHBOUR, 50001, source=53)) == PROTECTED
    assert own.reason(udp(NEIGHBOUR, 50000, source=54)) == PROTECTED


def test_who_called_is_still_answered_when_other_ports_are_forwarded() -> None:
    own = a_filter(udp=53)
    own.note(udp(GUEST, 53, source=50000, sender=NEIGHBOUR))
    answer = udp(NEIGHBOUR, 50000, source=53)
    assert a_filter(tcp=22, udp=53).after(own).reason(answer) is None
    assert a_filter(udp=54).after(own).reason(answer) == PROTECTED


def test_callers_without_number_are_not_all_remembered() -> None:
    own = a_filter(udp=53)
    for port in range(1024, 4096):
        own.note(udp(GUEST, 53, source=port, sender=NEIGHBOUR))
    assert own.reason(udp(NEIGHBOUR, 1024, source=53)) == PROTECTED
    assert own.reason(udp(NEIGHBOUR, 4095, source=53)) is None
