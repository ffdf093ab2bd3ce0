"""What hosts are told about network interfaces and private networks: the wire contract.

Every field is typed and bounded, so a host refuses a malformed document as a whole before it
touches anything. `NicSpec` is part of `vms.spec.VmSpec`; a `NetworkSpec` is a document of its own,
which a host answers with a `NetworkReport`. Pure, no Django.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_address, ip_interface
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from cloud.wire import WIRE_VERSION, Cause, Failure, Generation, Moment, RowId, Uuid, Version

MacAddress = Annotated[str, Meta(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")]
IpAddress = Annotated[str, Meta(pattern=r"^[0-9a-f.:]{2,45}\Z")]
Cidr = Annotated[str, Meta(pattern=r"^[0-9a-f.:]{2,45}/[0-9]{1,3}\Z")]
# Either of them; msgspec would hold a union of two kinds of text to one of their patterns only.
AddressOrCidr = Annotated[str, Meta(pattern=r"^[0-9a-f.:]{2,45}(/[0-9]{1,3})?\Z")]
Port = Annotated[int, Meta(ge=1, le=65535)]
Endpoint = Annotated[str, Meta(pattern=r"^[0-9a-f.:\[\]]{2,47}:[0-9]{1,5}\Z")]
# 32 bytes in Base64, as wg(8) writes it.
WireguardKey = Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/]{43}=\Z")]
Mbit = Annotated[int, Meta(ge=1, le=400_000)]
HostName = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z")]

Family = Literal[4, 6]

MOST_LEARNED: Final = 16
# What a counter of a day holds, with a lot to spare.
MOST_FRAMES: Final = 2**63 - 1

# The on-link next hops of every routed guest, answered by its host on the guest's own link.
ROUTED_GATEWAY = "172.31.1.1"
ROUTED_GATEWAY6 = "fe80::1"
# Where a host's tunnel listens unless its documents say otherwise.
TUNNEL_PORT: Final = 51820
# The network between a guest in user mode and its host, of which each such guest has its own. Of
# those between providers and customers (RFC 6598), because private networks may have any of
# RFC 1918, and far from the mesh.
USER_NETWORK = "100.127.2.0/24"
USER_ADDRESS, USER_GATEWAY, USER_RESOLVER = "100.127.2.15", "100.127.2.2", "100.127.2.3"


def check_addresses(*addresses: str | None, family: Family | None = None) -> None:
    """Raises ValueError unless each is None or an address: patterns let `::::` pass."""
    for address in addresses:
        if address is not None and family not in (None, ip_address(address).version):
            raise ValueError(f"{address} is no IPv{family} address")


def check_networks(*networks: str | None, family: Family | None = None) -> None:
    """Raises ValueError unless each is None, an address, or a network, or an address in one."""
    for network in networks:
        if network is not None and family not in (None, ip_interface(network).version):
            raise ValueError(f"{network} is no IPv{family} network")


def check_endpoints(*endpoints: str | None) -> None:
    """Raises ValueError unless each is None, or an address and a port."""
    for endpoint in endpoints:
        if endpoint is not None:
            address, _, port = endpoint.rpartition(":")
            ip_address(address.removeprefix("[").removesuffix("]"))
            if not 1 <= int(port) <= 65535:
                raise ValueError(f"{endpoint} has no port from 1 to 65535")


class RuleSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one firewall rule lets pass.

    `networks`: the other side, of either family; `ports`: first and last, for TCP and UDP only.
    """

    direction: Literal["in", "out"]
    protocol: Literal["tcp", "udp", "icmp", "esp", "gre"]
    networks: Annotated[tuple[Cidr, ...], Meta(max_length=100)]
    ports: tuple[Port, Port] | None = None

    def __post_init__(self) -> None:
        check_networks(*self.networks)


class FirewallSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All firewalls of a NIC as one list. Without an `in` rule nothing comes in; without an
    `out` rule everything goes out; answers always pass.
    """

    rules: Annotated[tuple[RuleSpec, ...], Meta(max_length=500)] = ()


class ForwardSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A port of the host that leads to a port of a guest in user mode."""

    protocol: Literal["tcp", "udp"]
    port: Port
    guest_port: Port


class NicSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One interface of a VM, as it must exist on the host.

    Private: in the network `network_id`, on the one switch that all its hosts make up; `ipv4` has
    the `prefix4` of its subnet, `gateway` is the subnet's, and `routes` are led there; `floating`
    are the alias IPs.

    User: the guest is behind its host's own address, as any program of the host is, and reached by
    its `forwards`; `ipv4` is of a network that no other guest is in. All a host without any
    privilege can do, unless root prepared a TAP for it: then it has routed NICs as well.

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
    mode: Literal["public_routed", "public_bridged", "private", "user"]
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
    network_id: RowId | None = None
    routes: Annotated[tuple[Cidr, ...], Meta(max_length=128)] = ()
    forwards: Annotated[tuple[ForwardSpec, ...], Meta(max_length=64)] = ()

    def __post_init__(self) -> None:
        check_addresses(self.ipv4, self.gateway, family=4)
        check_addresses(self.gateway6, family=6)
        check_addresses(*self.dns)
        check_networks(self.leased_from, family=4)
        check_networks(self.ipv6, family=6)
        check_networks(*self.floating, *self.routes)


class NicReport(Struct, frozen=True, omit_defaults=True):
    """What a host saw at a NIC: addresses that the guest got elsewhere, and what was dropped.

    `dropped` counts frames by reason (mac, ipv4, ipv6, arp, nd, dhcp_server, ra, protocol) since
    the NIC was made; protocol: neither ARP nor IP.
    """

    index: Annotated[int, Meta(ge=0, le=7)]
    learned: Annotated[tuple[IpAddress, ...], Meta(max_length=MOST_LEARNED)] = ()
    dropped: Annotated[
        dict[Annotated[str, Meta(max_length=32)], Annotated[int, Meta(ge=0, le=MOST_FRAMES)]],
        Meta(max_length=32),
    ] = {}

    def __post_init__(self) -> None:
        check_addresses(*self.learned)


class PeerSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Another host that has members of a network, and how the tunnel to it is made.

    `tunnel_ip`: its address inside the mesh. `endpoint`: where it can be reached, such as
    "192.0.2.12:51820"; None: it is behind NAT and calls first.
    """

    host_uuid: Uuid
    public_key: WireguardKey
    tunnel_ip: IpAddress
    endpoint: Endpoint | None = None

    def __post_init__(self) -> None:
        check_addresses(self.tunnel_ip)
        check_endpoints(self.endpoint)


class SubnetSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a network. Every host answers for `gateway`, everywhere with the same MAC."""

    ip_range: Cidr
    gateway: IpAddress

    def __post_init__(self) -> None:
        check_networks(self.ip_range)
        check_addresses(self.gateway)


class RouteSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What gateways send on to a member: `gateway` is that member's address."""

    destination: Cidr
    gateway: IpAddress

    def __post_init__(self) -> None:
        check_networks(self.destination)
        check_addresses(self.gateway)


class MemberSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A NIC in a network: where frames for its MAC go, and who answers ARP for its addresses.

    `host_uuid`: of one of the peers, or of the host that this is told.
    """

    mac: MacAddress
    host_uuid: Uuid
    addresses: Annotated[tuple[IpAddress, ...], Meta(max_length=16)]

    def __post_init__(self) -> None:
        check_addresses(*self.addresses)


class CableSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A cable that this host lays: TLS to `endpoint`, whose certificate must name `host`."""

    host: HostName
    endpoint: Endpoint

    def __post_init__(self) -> None:
        check_endpoints(self.endpoint)


class CablesSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the switches of a network on several hosts are joined, as seen from one of them.

    Control lays out a star, which has no loop: its hub accepts a cable from each other host, which
    lays one `uplink` to it. `layout` is the number of that star; ends of different stars do not
    match, so that a loop cannot arise while hosts change from one to the other.
    """

    layout: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    uplink: CableSpec | None = None
    accepts: Annotated[tuple[HostName, ...], Meta(max_length=1000)] = ()


class NetworkSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A private network as one host must make it. Only hosts that have a member are told, and the
    one that cables of others end at.

    `generation` counts what this host is told of this network. `vni` is the network's own, from 1;
    `tunnel_ip` and `port` are this host's, the same in all its documents. `egress`: members without
    a public address reach the world by way of their host, which gives them its own (source NAT).
    `mtu` in bytes, None: what the host's uplink leaves.

    A host in user mode has a switch for the network, reached by `cables`, and no part in the mesh:
    `tunnel_ip` is None, and it is told neither members nor peers. A host of the mesh with `cables`
    is the network's gateway for such hosts: their members are told everywhere as its own.
    """

    network_id: RowId
    host_uuid: Uuid
    generation: Generation
    vni: Annotated[int, Meta(ge=1, lt=2**24)]
    ip_range: Cidr
    tunnel_ip: IpAddress | None = None
    port: Port = TUNNEL_PORT
    mtu: Annotated[int, Meta(ge=1280, le=9216)] | None = None
    egress: bool = False
    subnets: Annotated[tuple[SubnetSpec, ...], Meta(max_length=50)] = ()
    routes: Annotated[tuple[RouteSpec, ...], Meta(max_length=100)] = ()
    members: Annotated[tuple[MemberSpec, ...], Meta(max_length=5000)] = ()
    peers: Annotated[tuple[PeerSpec, ...], Meta(max_length=1000)] = ()
    cables: CablesSpec | None = None
    cause: Cause | None = None
    version: Version = WIRE_VERSION

    def __post_init__(self) -> None:
        check_networks(self.ip_range)
        check_addresses(self.tunnel_ip)


class NetworkRemoval(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The host has no member any more: nothing of the network may stay there."""

    network_id: RowId
    host_uuid: Uuid
    generation: Generation
    cause: Cause | None = None
    version: Version = WIRE_VERSION


class NetworkReport(Struct, frozen=True, omit_defaults=True):
    """How far a host is with one network. `generation`: the newest document it holds."""

    network_id: RowId
    host_uuid: Uuid
    generation: Generation
    present: bool
    converged: bool
    at: Moment
    failure: Failure | None = None
    cause: Cause | None = None
    version: Version = WIRE_VERSION


class Presence(StrEnum):
    """How much of a VM's links a host found in place. ALL: just as the document says."""

    NONE = "none"
    PART = "part"
    ALL = "all"
