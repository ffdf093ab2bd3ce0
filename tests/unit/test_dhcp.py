"""What dnsmasq is told, word for word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from networks.host import dhcp
from networks.host.links import Tap
from tests.documents import SPEC

GOLDEN = Path(__file__).parent / "golden"


def tap(**changes: Any) -> Tap:
    return Tap("cu7-0", structs.replace(SPEC.nics[0], **changes), None)


BRIDGED = {"mode": "public_bridged", "prefix4": 24, "gateway": "198.51.100.1"}


def test_the_server_answers_on_guests_links_and_nowhere_else() -> None:
    text = dhcp.configuration(Path("/run/x/dhcp"), ["172.31.1.1", "192.0.2.11"])
    assert text == (GOLDEN / "dnsmasq.conf").read_text()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "02:00:00:00:00:07,set:cu7-0,198.51.100.7\n"),
        (BRIDGED, "02:00:00:00:00:07,set:bridged,set:cu7-0,198.51.100.7\n"),
    ],
)
def test_a_mac_gets_the_address_of_its_document(changes: dict[str, Any], line: str) -> None:
    assert dhcp.host_line(tap(**changes)) == line


def test_a_routed_guest_is_told_of_a_gateway_that_is_on_no_subnet() -> None:
    assert dhcp.option_lines(tap(mtu=1400), "web-1.example.org").splitlines() == [
        "tag:cu7-0,option:netmask,255.255.255.255",
        "tag:cu7-0,28,198.51.100.7",
        "tag:cu7-0,12,web-1",
        "tag:cu7-0,option:mtu,1400",
        "tag:cu7-0,option:dns-server,203.0.113.53",
        "tag:cu7-0,option:router,172.31.1.1",
        "tag:cu7-0,121,172.31.1.1/32,0.0.0.0,0.0.0.0/0,172.31.1.1",
        "tag:cu7-0,249,20:ac:1f:01:01:00:00:00:00:00:ac:1f:01:01",
    ]


def test_a_bridged_guest_is_told_of_the_outside_network() -> None:
    lines = dhcp.option_lines(tap(**BRIDGED, dns=()), "web-1").splitlines()
    assert lines[:2] == ["tag:cu7-0,option:netmask,255.255.255.0", "tag:cu7-0,28,198.51.100.255"]
    assert lines[4:] == ["tag:cu7-0,option:dns-server", "tag:cu7-0,option:router,198.51.100.1"]


def test_only_resolvers_that_dhcp_has_words_for_are_told() -> None:
    lines = dhcp.option_lines(tap(dns=("2001:db8::53", "192.0.2.53")), "web-1").splitlines()
    assert "tag:cu7-0,option:dns-server,192.0.2.53" in lines


def test_only_the_first_nic_has_a_default_route() -> None:
    assert dhcp.option_lines(tap(index=1), "web-1").endswith("tag:cu7-0,option:router\n")


def test_a_private_guest_is_told_of_its_networks_routes_and_no_default_one() -> None:
    private = {"mode": "private", "index": 1, "ipv4": "10.0.1.11", "prefix4": 24}
    nic = tap(**private, gateway="10.0.1.1", routes=("10.0.0.0/16", "172.20.1.0/24"))
    assert dhcp.option_lines(nic, "web-1").splitlines()[-3:] == [
        "tag:cu7-0,option:router",
        "tag:cu7-0,121,10.0.0.0/16,10.0.1.1,172.20.1.0/24,10.0.1.1",
        "tag:cu7-0,249,10:0a:00:0a:00:01:01:18:ac:14:01:0a:00:01:01",
    ]


def test_a_guest_that_has_only_a_private_nic_goes_out_by_its_gateway() -> None:
    private = {"mode": "private", "ipv4": "10.0.1.11", "prefix4": 24, "gateway": "10.0.1.1"}
    assert dhcp.option_lines(tap(**private), "web-1").endswith("tag:cu7-0,option:router,10.0.1.1\n")
    both = dhcp.option_lines(tap(**private, routes=("10.0.0.0/16",)), "web-1")
    assert "tag:cu7-0,121,10.0.0.0/16,10.0.1.1,0.0.0.0/0,10.0.1.1\n" in both
