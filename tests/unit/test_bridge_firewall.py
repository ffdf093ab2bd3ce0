"""The nftables text of the host's bridge and of its guests' firewalls, word for word."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from msgspec import structs

from networks.host import bridge_firewall
from networks.spec import FirewallSpec, RuleSpec
from tests.documents import SPEC

GOLDEN = Path(__file__).parent / "golden"
WEB = FirewallSpec((RuleSpec("in", "tcp", ("0.0.0.0/0", "::/0"), (80, 80)),))
NIC = structs.replace(
    SPEC.nics[0],
    mode="public_bridged",
    ipv6="2001:db8:1::/64",
    floating=("203.0.113.9",),
    firewall=WEB,
)


def test_the_host_is_closed_to_bridged_guests_and_what_passes_by_is_none_of_its_business() -> None:
    near = [ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")]
    text = bridge_firewall.host_rules("02:00:00:00:00:01", near)
    assert text == (GOLDEN / "bridged-host.nft").read_text()


def test_a_frame_finds_its_guest_s_firewall_by_mac_and_what_the_host_routes_by_address() -> None:
    text = bridge_firewall.nic_rules({"cu7-0": NIC}, {})
    assert text == (GOLDEN / "bridged-firewall.nft").read_text()


def test_only_where_outside_dhcp_gives_the_address_is_its_server_let_through() -> None:
    shown = bridge_firewall.nic_rules({"cu7-0": structs.replace(NIC, dhcp=True)}, {})
    assert "udp sport . udp dport { 67 . 68, 547 . 546 } return\n" in shown
    assert "67 . 68" not in bridge_firewall.nic_rules({"cu7-0": NIC}, {})


def test_what_led_elsewhere_is_led_here_in_the_same_transaction() -> None:
    text = bridge_firewall.nic_rules({"cu7-0": NIC}, {"arriving4": {"203.0.113.9": "to_cu8-0"}})
    assert text.startswith(
        "delete element inet cumulet_bridge arriving4 { 203.0.113.9 : goto to_cu8-0 }\n"
    )
    assert "arriving4 { 198.51.100.7 : goto to_cu7-0, 203.0.113.9 : goto to_cu7-0 }" in text


def test_a_chain_goes_after_what_leads_to_it() -> None:
    text = bridge_firewall.no_nic_rules(["cu7-0"], {"leaving": {NIC.mac: "from_cu7-0"}})
    assert text.splitlines() == [
        f"delete element inet cumulet_bridge leaving {{ {NIC.mac} : jump from_cu7-0 }}",
        "delete chain inet cumulet_bridge to_cu7-0",
        "delete chain inet cumulet_bridge from_cu7-0",
    ]
