"""What a host is told about one network interface: the wire contract between control and hosts.

Every field is typed and bounded, so a host refuses a malformed document as a whole before it
touches anything. Part of `vms.spec.VmSpec`; pure, no Django.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct

from cloud.wire import RowId

MacAddress = Annotated[str, Meta(pattern=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")]
IpAddress = Annotated[str, Meta(pattern=r"^[0-9a-f.:]{2,45}\Z")]

# The on-link next hop of every routed guest, answered by its host on the guest's own link.
ROUTED_GATEWAY = "172.31.1.1"


class NicSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One interface of a VM, as it must exist on the host.

    `ipv4` is the guest's only address on this interface (a /32); `mtu` is in bytes.
    """

    nic_id: RowId
    index: Annotated[int, Meta(ge=0, le=7)]
    mac: MacAddress
    mode: Literal["public_routed"]
    ipv4: IpAddress
    gateway: IpAddress = ROUTED_GATEWAY
    dns: tuple[IpAddress, ...] = ()
    mtu: Annotated[int, Meta(ge=1280, le=9216)] = 1500


class Presence(StrEnum):
    """How much of a VM's links a host found in place."""

    NONE = "none"
    PART = "part"
    ALL = "all"
