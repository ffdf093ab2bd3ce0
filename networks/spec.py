"""What a host is told about one network interface: the wire contract between control and hosts.

Every field is typed and bounded, so a host refuses a malformed document as a whole before it
touches anything. Part of `vms.spec.VmSpec`; pure, no Django.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from cloud.wire import RowId

MacAddress = Annotated[str, Meta(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")]
IpAddress = Annotated[str, Meta(pattern=r"^[0-9a-f.:]{2,45}\Z")]
Cidr = Annotated[str, Meta(pattern=r"^[0-9a-f.:]{2,45}/[0-9]{1,3}\Z")]
# Either of them; msgspec would hold a union of two kinds of text to one of their patterns only.
AddressOrCidr = Annotated[str, Meta(pattern=r"^[0-9a-f.:]{2,45}(/[0-9]{1,3})?\Z")]
Port = Annotated[int, Meta(ge=1, le=65535)]
Mbit = Annotated[int, Meta(ge=1, le=400_000)]

MOST_LEARNED: Final = 16

# The on-link next hops of every routed guest, answered by its host on the guest's own link.
ROUTED_GATEWAY = "172.31.1.1"
ROUTED_GATEWAY6 = "fe80::1"


class RuleSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """What one firewall rule lets pass.

    `networks`: the other side, of either family; `ports`: first and last, for TCP and UDP only.
    """

    direction: Literal["in", "out"]
    protocol: Literal["tcp", "udp", "icmp", "esp", "gre"]
    networks: Annotated[tuple[Cidr, ...], Meta(max_length=100)]
    ports: tuple[Port, Port] | None = None


class FirewallSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """All firewalls of a NIC as one list. Without an `in` rule nothing comes in; without an
    `out` rule everything goes out; answers always pass.
    """

    rules: Annotated[tuple[RuleSpec, ...], Meta(max_length=500)] = ()


class NicSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One interface of a VM, as it must exist on the host.

    Routed: `ipv4` is a /32 and `ipv6` a /64 of which the guest has the first address, both behind
    the host. Bridged: `ipv4` has `prefix4` and a gateway in the outside network; with `dhcp` the
    outside network itself gives addresses, of `leased_from`, and `ipv4` is None. `floating`:
    further addresses or /64 networks that are led to this NIC. `firewall` None: everything
    passes. `mtu` in bytes, `mbit_in` and `mbit_out` (towards and from the guest) in Mbit/s, None:
    unlimited.
    """

    nic_id: RowId
    index: Annotated[int, Meta(ge=0, le=7)]
    mac: MacAddress
    mode: Literal["public_routed", "public_bridged"]
    ipv4: IpAddress | None = None
    prefix4: Annotated[int, Meta(ge=8, le=32)] = 32
    gateway: IpAddress = ROUTED_GATEWAY
    ipv6: Cidr | None = None
    gateway6: IpAddress = ROUTED_GATEWAY6
    dhcp: bool = False
    leased_from: Cidr | None = None
    floating: Annotated[tuple[AddressOrCidr, ...], Meta(max_length=64)] = ()
    dns: tuple[IpAddress, ...] = ()
    mtu: Annotated[int, Meta(ge=1280, le=9216)] = 1500
    firewall: FirewallSpec | None = None
    mbit_in: Mbit | None = None
    mbit_out: Mbit | None = None


class NicReport(Struct, frozen=True):
    """What a host saw at a NIC: addresses that the guest got elsewhere, and what was dropped.

    `dropped` counts frames by reason (mac, ipv4, ipv6, arp, nd, dhcp_server, ra, protocol) since
    the NIC was made; protocol: neither ARP nor IP.
    """

    index: Annotated[int, Meta(ge=0, le=7)]
    learned: Annotated[tuple[IpAddress, ...], Meta(max_length=MOST_LEARNED)] = ()
    dropped: dict[str, int] = {}


class Presence(StrEnum):
    """How much of a VM's links a host found in place. ALL: just as the document says."""

    NONE = "none"
    PART = "part"
    ALL = "all"
