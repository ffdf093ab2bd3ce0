"""The frames that tell the neighbours where an address is, byte for byte."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from networks.host import announce

MAC = bytes.fromhex("020000000007")


def test_an_arp_announcement_asks_everybody_for_its_own_sender() -> None:
    assert announce.gratuitous_arp(MAC, IPv4Address("198.51.100.7")) == bytes.fromhex(
        "ffffffffffff 020000000007 0806"
        "0001 0800 06 04 0001"
        "020000000007 c6336407"
        "000000000000 c6336407"
    )


def test_an_advertisement_overrides_what_all_nodes_know() -> None:
    address = IPv6Address("2001:db8:a:7::1")
    frame = announce.unsolicited_advertisement(MAC, address)
    assert frame[:14] == bytes.fromhex("333300000001 020000000007 86dd")
    assert frame[14:22] == bytes.fromhex("60000000 0020 3a ff")
    assert frame[22:54] == address.packed + IPv6Address("ff02::1").packed
    body = frame[54:]
    assert (body[:2], body[4:8]) == (bytes.fromhex("8800"), bytes.fromhex("a0000000"))
    assert body[8:] == address.packed + bytes.fromhex("0201 020000000007")
