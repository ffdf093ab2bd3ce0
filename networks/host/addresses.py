"""What is led to a NIC: its own addresses and the floating ones, as networks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from networks.spec import NicSpec

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def led_to(nic: NicSpec) -> tuple[Network, ...]:
    """Its networks, the primary ones first: /32 for each IPv4 address, mostly /64 for IPv6."""
    given = (nic.ipv4, nic.ipv6, *nic.floating)
    return tuple(dict.fromkeys(ip_network(one, strict=False) for one in given if one))


def public(nics: Iterable[NicSpec]) -> list[Network]:
    """All that the host leads to these NICs, or that their guests answer for outside."""
    return [network for nic in nics if nic.mode != "private" for network in led_to(nic)]


def ipv4(nic: NicSpec) -> list[IPv4Address]:
    return [one.network_address for one in led_to(nic) if isinstance(one, IPv4Network)]


def ipv6(nic: NicSpec) -> list[IPv6Network]:
    return [one for one in led_to(nic) if isinstance(one, IPv6Network)]


def spoken_for(network: Network) -> Address:
    """The address that the host answers for on the uplink: the first that a guest takes.

    The kernel's proxy knows single addresses only. Where guests shall have more of a network than
    its first address, the router upstream has a route to it by way of the host.
    """
    return network[1] if network.version == 6 and network.num_addresses > 1 else network[0]
