"""What is done about a difference, and why not more. Pure.

What is missing comes back by the document that it was made from, except data: an empty disk is
never made in place of a lost one. What is extra is removed only if it is proven to be ours and of
a server that was deleted; everything else goes to the quarantine, where nobody touches it. That a
server is not in the inventory proves nothing, as the inventory may be an older backup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from vms.drift.differences import Difference, Direction
from vms.drift.spec import HeldNetwork, HeldServer, Kind, Thing
from vms.drift.things import ANSWER, UNHELD

_DATA = (Kind.DISK, Kind.DIRECTORY)
# What a document makes and takes away again, whatever it finds.
_BY_DOCUMENT = (Kind.PROCESS, Kind.OUTLET, Kind.PORT)
_BY_NETWORK = (Kind.FDB, Kind.NEIGHBOUR)


class Verb(StrEnum):
    """What a repair does. The first two send a document that makes things as it says."""

    SEND_SERVER = "send_server"
    SEND_NETWORK = "send_network"
    REMOVE_SERVER = "remove_server"
    REMOVE_NETWORK = "remove_network"
    REMOVE_STRAY = "remove_stray"
    QUARANTINE = "quarantine"
    NOTHING = "nothing"

    @property
    def repairs(self) -> bool:
        return self not in (Verb.QUARANTINE, Verb.NOTHING)

    @property
    def removes(self) -> bool:
        return self in (Verb.REMOVE_SERVER, Verb.REMOVE_NETWORK, Verb.REMOVE_STRAY)


@dataclass(frozen=True)
class Treatment:
    """`reason` in words that go on after a colon."""

    verb: Verb
    reason: str


@dataclass(frozen=True)
class Knowledge:
    """What the inventory knows of the servers and networks that a host's things belong to.

    `here`: servers of this host, `elsewhere`: of other hosts; with their UUIDs. `ended`: servers
    that it knows to be deleted. `networks`: those that this host was told of; `ended_networks`:
    those that it knows to be deleted. `lost_disks`: servers of which a disk is missing.
    """

    here: Mapping[int, str]
    elsewhere: Mapping[int, str]
    ended: frozenset[tuple[int, str]]
    networks: frozenset[int]
    ended_networks: frozenset[int]
    held: Mapping[int, HeldServer]
    held_networks: Mapping[int, HeldNetwork]
    lost_disks: frozenset[int]

    def has_ended(self, server: int, uuid: str) -> bool:
        return (server, uuid) in self.ended


def lost_disks(found: Iterable[Difference]) -> frozenset[int]:
    return frozenset(
        one.thing.server
        for one in found
        if one.direction is Direction.MISSING and one.thing.kind is Kind.DISK and one.thing.server
    )


def treat(difference: Difference, known: Knowledge) -> Treatment:
    if difference.direction is Direction.MISSING:
        return _restored(difference, known)
    return _removed(difference, known)


def _restored(difference: Difference, known: Knowledge) -> Treatment:
    thing = difference.thing
    if thing.server is None:
        return Treatment(Verb.SEND_NETWORK, "the host makes what its network's document says")
    if difference.detail == UNHELD:
        return Treatment(
            Verb.NOTHING,
            "somebody removed the interface under its guest, and a QEMU opens none anew;"
            " shut the server down and start it (a reboot keeps its QEMU)",
        )
    if thing.kind is Kind.DISK:
        return Treatment(
            Verb.NOTHING,
            "disk_lost: its data is gone, and an empty disk is never made in its place; put the"
            " file back from a backup, or delete the server (a QEMU that still runs has it open:"
            " copy it from /proc/PID/fd first)",
        )
    if thing.server in known.lost_disks and thing.kind in (Kind.SERVER, Kind.PROCESS):
        return Treatment(Verb.NOTHING, "disk_lost: the server cannot run without its disk")
    return Treatment(Verb.SEND_SERVER, "the host makes what the server's document says")


def _removed(difference: Difference, known: Knowledge) -> Treatment:
    thing = difference.thing
    if difference.detail:
        return Treatment(
            Verb.NOTHING,
            f"{difference.detail}: was an older backup restored? The host refuses older documents,"
            " so nothing of the server changes until the inventory's is newer",
        )
    if thing.server is not None:
        return _of_server(thing, thing.server, known)
    if thing.network is not None:
        return _of_network(thing, thing.network, known)
    if _is_stray(thing) and thing.kind is Kind.ADDRESS:
        return Treatment(Verb.REMOVE_STRAY, "the host entered it itself, and it leads to no server")
    return Treatment(Verb.QUARANTINE, "nothing says that it is ours")


def _of_server(thing: Thing, server: int, known: Knowledge) -> Treatment:
    held = known.held.get(server)
    uuid = thing.uuid or (held.uuid if held else None)
    if uuid is not None and known.here.get(server) == uuid:
        return _of_known_server(thing, server)
    if uuid and (thing.tombstoned or known.has_ended(server, uuid)):
        return Treatment(Verb.REMOVE_SERVER, f"server #{server} was deleted, and this is of it")
    if held is not None or uuid is not None:
        return Treatment(Verb.QUARANTINE, _unknown(server, uuid, known))
    ended = server not in known.here and any(server == number for number, _ in known.ended)
    if ended and _is_stray(thing):
        return Treatment(Verb.REMOVE_STRAY, f"server #{server} was deleted, and this host made it")
    if thing.kind in _DATA:
        return Treatment(Verb.QUARANTINE, "data is never removed that no document names")
    return Treatment(Verb.QUARANTINE, "it is not proven to be of a server that was deleted")


def _of_known_server(thing: Thing, server: int) -> Treatment:
    if thing.kind is Kind.PROCESS and thing.name != thing.uuid:
        return Treatment(
            Verb.QUARANTINE,
            f"server #{server} runs twice on its host: look which of them its guest is, and end the"
            " other",
        )
    if thing.kind in _BY_DOCUMENT:
        return Treatment(Verb.SEND_SERVER, f"the document of server #{server} has it end")
    if _is_stray(thing):
        return Treatment(Verb.REMOVE_STRAY, f"this host made it, and server #{server} has it not")
    if thing.kind in _DATA:
        return Treatment(Verb.QUARANTINE, f"data that the document of #{server} does not name")
    return Treatment(Verb.QUARANTINE, f"server #{server} has it not, nor did this host make it")


def _unknown(server: int, uuid: str | None, known: Knowledge) -> str:
    if uuid is not None and known.elsewhere.get(server) == uuid:
        return f"server #{server} is another host's by the inventory"
    return (
        f"server #{server} ({uuid}) is not in the inventory, nor known to be deleted: was an older"
        " backup restored?"
    )


def _is_stray(thing: Thing) -> bool:
    """Whether the host can prove that it is its own, and take it away alone.

    Rules have no mark but their name; the host sees for itself that their interface is gone.
    """
    if thing.kind is Kind.ADDRESS:
        return thing.marked and thing.name.startswith(ANSWER)
    return thing.kind is Kind.RULES or (thing.kind is Kind.TAP and thing.marked)


def _of_network(thing: Thing, network: int, known: Knowledge) -> Treatment:
    if network in known.networks:
        if thing.kind in _BY_NETWORK:
            return Treatment(Verb.SEND_NETWORK, "the network's document takes away what it lacks")
        return Treatment(Verb.QUARANTINE, f"the document of network #{network} does not name it")
    if network in known.held_networks and network in known.ended_networks:
        return Treatment(Verb.REMOVE_NETWORK, f"network #{network} was deleted, and this is of it")
    return Treatment(Verb.QUARANTINE, f"network #{network} is not in the inventory of this host")
