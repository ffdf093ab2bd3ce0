"""What a repair would do: nothing running and no data ends but what is proven to be ours."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.documents import HOST_UUID, VM_UUID
from vms.drift import things
from vms.drift.differences import Difference, Direction
from vms.drift.spec import HeldNetwork, HeldServer, Kind, Thing
from vms.drift.treatment import Knowledge, Treatment, Verb, lost_disks, treat

TAP = Thing(Kind.TAP, "cu7-0", server=7, marked=True)
PROCESS = things.process(7, VM_UUID)
HELD = {7: HeldServer(7, VM_UUID, 3)}


def known(**facts: Any) -> Knowledge:
    nothing: dict[str, Any] = {
        "here": {},
        "elsewhere": {},
        "ended": frozenset(),
        "networks": frozenset(),
        "ended_networks": frozenset(),
        "held": {},
        "held_networks": {},
        "lost_disks": frozenset(),
    }
    return Knowledge(**{**nothing, **facts})


def missing(thing: Thing, **facts: Any) -> Treatment:
    return treat(Difference(Direction.MISSING, thing), known(**facts))


def extra(thing: Thing, **facts: Any) -> Treatment:
    return treat(Difference(Direction.EXTRA, thing), known(**facts))


@pytest.mark.parametrize("thing", [PROCESS, TAP, Thing(Kind.RULES, "cu7-0", server=7)])
def test_what_a_server_lacks_comes_back_by_its_document(thing: Thing) -> None:
    assert missing(thing).verb is Verb.SEND_SERVER


def test_what_a_network_lacks_comes_back_by_its_document() -> None:
    assert missing(Thing(Kind.BRIDGE, "cb1", network=1)).verb is Verb.SEND_NETWORK


def test_a_lost_disk_is_never_repaired_nor_is_what_needs_it() -> None:
    disk = things.disk(7, 0)
    lost = lost_disks([Difference(Direction.MISSING, disk)])
    assert lost == {7}
    for thing in (disk, PROCESS, things.server(7, VM_UUID)):
        treatment = missing(thing, lost_disks=lost)
        assert treatment.verb is Verb.NOTHING
        assert treatment.reason.startswith("disk_lost")


def test_an_interface_that_its_guest_cannot_open_says_how_to_get_it_back() -> None:
    tap = Difference(Direction.MISSING, Thing(Kind.TAP, "cu7-0", server=7), things.UNHELD)
    treatment = treat(tap, known())
    assert treatment.verb is Verb.NOTHING
    assert "shut the server down and start it" in treatment.reason


def test_a_server_that_the_inventory_does_not_know_is_left_running() -> None:
    for thing in (PROCESS, TAP, things.disk(7, 0), things.server(7, VM_UUID)):
        assert extra(thing, held=HELD).verb is Verb.QUARANTINE


def test_what_is_left_of_a_server_that_is_known_to_be_deleted_goes() -> None:
    ended = frozenset({(7, VM_UUID)})
    assert extra(PROCESS, ended=ended, held=HELD).verb is Verb.REMOVE_SERVER
    assert extra(PROCESS, ended=ended).verb is Verb.REMOVE_SERVER
    assert extra(TAP, ended=ended).verb is Verb.REMOVE_STRAY
    assert extra(Thing(Kind.RULES, "cu7-0", server=7), ended=ended).verb is Verb.REMOVE_STRAY


def test_a_number_that_was_given_again_proves_nothing() -> None:
    """A restored database counts anew; a TAP's name tells the number only."""
    ended = frozenset({(7, HOST_UUID)})
    assert extra(TAP, ended=ended, here={7: VM_UUID}).verb is Verb.QUARANTINE


def test_another_server_of_the_same_number_was_not_deleted() -> None:
    ended = frozenset({(7, HOST_UUID)})
    assert extra(PROCESS, ended=ended, held=HELD).verb is Verb.QUARANTINE


def test_a_tombstone_of_the_host_proves_that_the_server_must_be_gone() -> None:
    buried = Thing(Kind.PROCESS, VM_UUID, server=7, uuid=VM_UUID, tombstoned=True)
    assert extra(buried).verb is Verb.REMOVE_SERVER


def test_a_server_that_the_inventory_has_again_outweighs_its_tombstone() -> None:
    buried = Thing(Kind.PROCESS, VM_UUID, server=7, uuid=VM_UUID, tombstoned=True)
    assert extra(buried, here={7: VM_UUID}, held=HELD).verb is Verb.SEND_SERVER


@pytest.mark.parametrize(
    "thing",
    [
        pytest.param(Thing(Kind.TAP, "cu7-0", server=7), id="a TAP that bears no mark"),
        pytest.param(Thing(Kind.TAP, "tap-mine"), id="a TAP of another name"),
        pytest.param(Thing(Kind.BRIDGE, "br0"), id="somebody's bridge"),
        pytest.param(Thing(Kind.DIRECTORY, "backup"), id="a directory"),
        pytest.param(things.disk(7, 0), id="a disk without a document"),
        pytest.param(things.route(7, "203.0.113.9/32", "cu7-0"), id="a route"),
    ],
)
def test_what_is_not_proven_to_be_ours_goes_to_the_quarantine(thing: Thing) -> None:
    assert extra(thing, ended=frozenset({(7, VM_UUID)})).verb is Verb.QUARANTINE


def test_an_interface_too_many_of_a_known_server_goes_if_the_host_made_it() -> None:
    mine = {"here": {7: VM_UUID}, "held": HELD}
    assert extra(TAP, **mine).verb is Verb.REMOVE_STRAY
    assert extra(Thing(Kind.TAP, "cu7-3", server=7), **mine).verb is Verb.QUARANTINE
    assert extra(things.disk(7, 5), **mine).verb is Verb.QUARANTINE
    assert extra(PROCESS, **mine).verb is Verb.SEND_SERVER


def test_which_of_two_processes_of_a_server_is_right_is_left_to_people() -> None:
    again = Thing(Kind.PROCESS, f"{VM_UUID} again, as 4711", server=7, uuid=VM_UUID)
    assert extra(again, here={7: VM_UUID}, held=HELD).verb is Verb.QUARANTINE


def test_an_entry_too_many_goes_by_the_document_of_its_network() -> None:
    entry = Thing(Kind.FDB, "x", network=4)
    assert extra(entry, networks=frozenset({4})).verb is Verb.SEND_NETWORK
    assert extra(entry).verb is Verb.QUARANTINE


def test_a_network_goes_only_if_it_is_known_to_be_deleted() -> None:
    bridge = Thing(Kind.BRIDGE, "cb4", network=4, marked=True)
    held = {4: HeldNetwork(4, 2)}
    assert extra(bridge, held_networks=held).verb is Verb.QUARANTINE
    ended = frozenset({4})
    assert extra(bridge, held_networks=held, ended_networks=ended).verb is Verb.REMOVE_NETWORK


def test_a_newer_document_on_the_host_is_told_and_left() -> None:
    ahead = Difference(Direction.EXTRA, things.server(7, VM_UUID), "its host holds generation 9")
    assert treat(ahead, known(here={7: VM_UUID}, held=HELD)).verb is Verb.NOTHING


THINGS = st.builds(
    Thing,
    st.sampled_from(list(Kind)),
    st.just("x"),
    server=st.sampled_from([None, 7]),
    network=st.sampled_from([None, 4]),
    uuid=st.sampled_from([None, VM_UUID]),
    marked=st.booleans(),
)


@given(THINGS, st.booleans(), st.booleans())
def test_without_proof_of_its_deletion_nothing_of_a_server_is_removed(
    thing: Thing, elsewhere: bool, held: bool
) -> None:
    facts = {"elsewhere": {7: VM_UUID} if elsewhere else {}, "held": HELD if held else {}}
    treatment = extra(thing, **facts)
    if thing.server is not None:
        assert not treatment.verb.removes, treatment
    if thing.kind in (Kind.DISK, Kind.DIRECTORY):
        assert treatment.verb is Verb.QUARANTINE
    assert treatment.reason
