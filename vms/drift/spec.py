"""The wire contract of drift: what a host says that it has, and what control may ask of it.

A host answers an `InventoryRequest`, and tells by itself whenever something changed, with a
`HostInventory`: names of things, never their contents. What control wants removed it names in a
`StrayRemoval`; the host looks again and removes only what it can prove to be its own. Pure.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from cloud.wire import WIRE_VERSION, Generation, RowId, Uuid, Version
from vms.spec import PowerGoal, Serial

# Of each kind; a host that has more says how many it left out.
MOST_OF_A_KIND: Final = 4096
# Servers and networks that a host holds documents of: more than any host can run.
MOST_HELD: Final = 4096
MOST_STRAYS: Final = 500

# Public addresses, or forwarded ports, of one server: those of 8 interfaces.
MOST_ADDRESSES: Final = 8 * 66
# UUIDs that control asks about in one request.
MOST_ASKED: Final = 4096

Text = Annotated[str, Meta(pattern=r"^[ -~]{1,200}\Z")]
HeldPort = Annotated[str, Meta(pattern=r"^(tcp|udp)/[0-9]{1,5}\Z")]
Flaw = Annotated[str, Meta(pattern=r"^[ -~]{0,200}\Z")]
# A TAP of a guest, or an address: msgspec would hold a union of two kinds of text to one of them.
StrayName = Annotated[str, Meta(pattern=r"^(cu[0-9a-z]{1,11}-[0-7]|[0-9a-f.:]{2,45})\Z")]


class Kind(StrEnum):
    """What can be too many or too few on a host."""

    SERVER = "server"  # its document on the host's disk
    DISK = "disk"
    PROCESS = "process"  # a QEMU
    DIRECTORY = "directory"  # among those of servers
    TAP = "tap"
    RULES = "rules"  # the packet filter's table of a TAP
    ADDRESS = "address"  # a route to a guest, or an answer for it on the uplink
    BRIDGE = "bridge"
    TUNNEL = "tunnel"  # a VXLAN device
    FDB = "fdb"  # where frames for a MAC go
    NEIGHBOUR = "neighbour"  # which MAC answers for an address
    SWITCH = "switch"  # of a private network, on a host in user mode
    OUTLET = "outlet"  # the process that leads a guest in user mode outside
    PORT = "port"  # of the host, that leads to a guest


class Thing(Struct, frozen=True, omit_defaults=True):
    """One thing on a host, known by `kind` and `name`.

    `server`, `network`: whose it is by its name, which proves nothing; `uuid`: of the server, where
    a document or the thing itself says so. `marked`: it bears the mark of this very host.
    `tombstoned`: control once told this host that the server with this UUID must be gone. `flaw`:
    it is there, but not whole.
    """

    kind: Kind
    name: Text
    server: RowId | None = None
    network: RowId | None = None
    uuid: Uuid | None = None
    marked: bool = False
    tombstoned: bool = False
    flaw: Flaw = ""


class HeldPrivate(Struct, frozen=True, omit_defaults=True):
    """Addresses of a server in a private network."""

    network_id: RowId
    addresses: Annotated[tuple[Text, ...], Meta(max_length=65)] = ()


class HeldServer(Struct, frozen=True, omit_defaults=True):
    """A document of a server that the host holds. `wanted` off: it is to be gone.

    What else the document says, for an inventory that was set back: `power`, counts, public
    `addresses` and /64 networks, `ports` of the host itself as "tcp/30000", private addresses.
    """

    vm_id: RowId
    uuid: Uuid
    generation: Generation
    wanted: bool = True
    power: PowerGoal | None = None
    reset_serial: Serial = 0
    reboot_serial: Serial = 0
    addresses: Annotated[tuple[Text, ...], Meta(max_length=MOST_ADDRESSES)] = ()
    ports: Annotated[tuple[HeldPort, ...], Meta(max_length=MOST_ADDRESSES)] = ()
    private: Annotated[tuple[HeldPrivate, ...], Meta(max_length=8)] = ()


class HeldNetwork(Struct, frozen=True, omit_defaults=True):
    """The same of a private network."""

    network_id: RowId
    generation: Generation
    wanted: bool = True


class HostInventory(Struct, frozen=True, omit_defaults=True):
    """All that a host has of what control asks hosts for.

    `seq`: the host's clock in milliseconds when it began to look, as `VmReport.seq`: so control
    knows which of two words is the later one. `unseen`: kinds that could not be looked at, which
    means nothing about them. `cut`: how many of a kind were left out, because there are too many.
    `answers`: the `question` of the request that it answers, and `removed`: those of its `servers`
    that this host was once told to remove for ever.
    """

    host_uuid: Uuid
    boot_id: Annotated[str, Meta(max_length=64)]
    seq: Annotated[int, Meta(ge=0, le=2**53 - 1)]
    things: Annotated[tuple[Thing, ...], Meta(max_length=MOST_OF_A_KIND * len(Kind))] = ()
    servers: Annotated[tuple[HeldServer, ...], Meta(max_length=MOST_HELD)] = ()
    networks: Annotated[tuple[HeldNetwork, ...], Meta(max_length=MOST_HELD)] = ()
    unseen: Annotated[tuple[Kind, ...], Meta(max_length=len(Kind))] = ()
    cut: dict[Kind, Annotated[int, Meta(ge=1)]] = {}
    removed: Annotated[tuple[Uuid, ...], Meta(max_length=MOST_ASKED)] = ()
    answers: Annotated[str, Meta(max_length=64)] = ""
    version: Version = WIRE_VERSION


class InventoryRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The host must look, and tell what it has, changed or not.

    `servers`: UUIDs of which it must say whether it was told to remove them; the answer names the
    `question`.
    """

    host_uuid: Uuid
    servers: Annotated[tuple[Uuid, ...], Meta(max_length=MOST_ASKED)] = ()
    question: Annotated[str, Meta(max_length=64)] = ""
    version: Version = WIRE_VERSION


class StraySpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Something to remove: an interface with its rules, rules alone, or an answer for an address.

    `name`: of the interface, or the address.
    """

    kind: Literal["interface", "rules", "answer"]
    name: StrayName


class StrayRemoval(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """These must be gone, if the host finds them marked as its own and wanted by no document."""

    host_uuid: Uuid
    strays: Annotated[tuple[StraySpec, ...], Meta(min_length=1, max_length=MOST_STRAYS)]
    version: Version = WIRE_VERSION
