"""Documents of every wire version that there ever was: read as they were meant, or refused.

The files in golden/wire-N were written when N was the version, and never change: of each document
one that says everything, one that says the least, and what the latter means.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from cloud.errors import CumuletError
from cloud.wire import (
    WIRE_VERSION,
    Introduction,
    MalformedDocument,
    Refusal,
    VersionUnsupported,
    convert,
    decode,
    encode,
)
from networks.spec import NetworkRemoval, NetworkReport, NetworkSpec
from vms import compatibility
from vms.drift.spec import HostInventory, InventoryRequest, StrayRemoval
from vms.host.refusals import refusal
from vms.placement import Candidate, Demand, place
from vms.spec import (
    HostReport,
    ImageFetch,
    ImageReport,
    UnchangedReport,
    UsageReport,
    VmRemoval,
    VmReport,
    VmSpec,
)

GOLDEN = Path(__file__).parent / "golden"
DOCUMENTS: dict[str, type[Struct]] = {
    "vm_spec": VmSpec,
    "vm_removal": VmRemoval,
    "image_fetch": ImageFetch,
    "network_spec": NetworkSpec,
    "network_removal": NetworkRemoval,
    "vm_report": VmReport,
    "host_report": HostReport,
    "image_report": ImageReport,
    "usage_report": UsageReport,
    "network_report": NetworkReport,
    "unchanged_report": UnchangedReport,
    "host_inventory": HostInventory,
    "inventory_request": InventoryRequest,
    "stray_removal": StrayRemoval,
}
TO_HOSTS = [
    "vm_spec",
    "vm_removal",
    "image_fetch",
    "network_spec",
    "network_removal",
    "inventory_request",
    "stray_removal",
]
FROM_HOSTS = sorted(DOCUMENTS.keys() - set(TO_HOSTS))
FOR_EVER: dict[str, type[Struct]] = {"introduction": Introduction, "refusal": Refusal}
VERSIONS = [int(path.name.removeprefix("wire-")) for path in sorted(GOLDEN.glob("wire-*"))]
HOST_UUID = "99999999-8888-7777-6666-555555555555"


def golden(name: str, version: int = WIRE_VERSION) -> Any:
    return json.loads((GOLDEN / f"wire-{version}" / f"{name}.json").read_text())


def plain(document: Struct) -> Any:
    """As it travels."""
    return json.loads(json.dumps(encode(document)))


def spelled(value: Any) -> Any:
    """Every field of a document, also those that go without saying."""
    if isinstance(value, Struct):
        return {name: spelled(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple | list):
        return [spelled(one) for one in value]
    return msgspec.to_builtins(value)


def says(meant: Any, read: Any) -> bool:
    """Whether all that was meant was read; what later releases added may have a default."""
    if isinstance(meant, dict):
        return isinstance(read, dict) and all(
            name in read and says(value, read[name]) for name, value in meant.items()
        )
    if isinstance(meant, list):
        return (
            isinstance(read, list)
            and len(meant) == len(read)
            and all(says(*pair) for pair in zip(meant, read, strict=True))
        )
    return bool(meant == read)


def test_the_present_version_has_golden_files() -> None:
    assert list(range(1, WIRE_VERSION + 1)) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_of_any_version_is_read_as_it_was_meant_or_refused(
    name: str, version: int
) -> None:
    for kind, meaning in ((f"{name}.full",) * 2, (f"{name}.least", f"{name}.least.means")):
        try:
            read = decode(golden(kind, version), DOCUMENTS[name])
        except VersionUnsupported:
            assert version != WIRE_VERSION
            continue
        assert says(golden(meaning, version) | {"version": WIRE_VERSION}, spelled(read))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_asks_nothing_new_is_written_as_older_releases_read_it(name: str) -> None:
    for kind in (f"{name}.full", f"{name}.least"):
        assert plain(decode(golden(kind), DOCUMENTS[name])) == golden(kind)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FOR_EVER)
def test_what_is_the_same_in_all_versions_is_always_read(name: str, version: int) -> None:
    document = golden(f"{name}.full", version)
    assert plain(convert(document, FOR_EVER[name])) | document == document


@pytest.mark.parametrize("version", VERSIONS)
def test_every_heartbeat_introduces_its_host(version: int) -> None:
    told = {**golden("host_report.full", version), "surprise": {"of": "a later release"}}
    who = convert(told, Introduction)
    assert (who.host, who.host_uuid, who.version) == ("h1", HOST_UUID, version)


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("version", [WIRE_VERSION + 1, WIRE_VERSION + 7, 2**31])
def test_a_newer_version_is_refused_even_if_it_looks_the_same(name: str, version: int) -> None:
    with pytest.raises(VersionUnsupported, match=f"of wire version {version}, this side speaks"):
        decode({**golden(f"{name}.full"), "version": version}, DOCUMENTS[name])


@pytest.mark.parametrize("version", [None, 0, -1, 1.0, True, "1", [1], {}])
def test_what_is_no_version_is_refused(version: Any) -> None:
    with pytest.raises(MalformedDocument, match="without a wire version"):
        decode({**golden("vm_spec.full"), "version": version}, VmSpec)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(0, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def tampered(draw: st.DrawFn, name: str) -> Any:
    """A document in which something is another thing, missing, or too much."""
    document = copy.deepcopy(golden(f"{name}.full"))
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        inner = place[key]
        if not (isinstance(inner, dict | list) and inner and draw(st.booleans())):
            break
        place = inner
    how = draw(st.sampled_from(["change", "remove", "add"]))
    if how == "remove":
        del place[key]
    elif how == "add" and isinstance(place, dict):
        place[draw(st.text())] = draw(ANYTHING)
    else:
        place[key] = draw(ANYTHING)
    return document


@pytest.mark.parametrize("name", TO_HOSTS)
@given(data=st.data())
def test_nothing_that_a_host_is_told_is_overlooked_or_taken_for_something_else(
    name: str, data: st.DataObject
) -> None:
    document = data.draw(tampered(name))
    try:
        read = decode(document, DOCUMENTS[name])
    except MalformedDocument:
        return
    assert says(document, spelled(read))


@pytest.mark.parametrize("name", FROM_HOSTS)
@given(data=st.data())
def test_whatever_a_host_says_is_read_or_refused(name: str, data: st.DataObject) -> None:
    try:
        decode(data.draw(tampered(name)), DOCUMENTS[name])
    except MalformedDocument:
        return


class TestTheAnswerOfAHost:
    """To a document that it cannot take."""

    WHY = VersionUnsupported("VmSpec is of wire version 2, this side speaks 1: upgrade")

    @pytest.mark.parametrize(
        ("task", "name", "number", "generation"),
        [
            ("vms.ensure", "vm_spec.full", 7, 3),
            ("vms.remove", "vm_removal.full", 7, 9),
            ("networks.ensure", "network_spec.full", 8, 6),
            ("networks.remove", "network_removal.full", 8, 7),
            ("images.fetch", "image_fetch.full", 3, 0),
        ],
    )
    def test_says_what_it_is_about_and_why(
        self, task: str, name: str, number: int, generation: int
    ) -> None:
        document = {**golden(name), "version": 2, "surprise": [1]}
        answer = refusal(HOST_UUID, task, document, self.WHY)
        assert answer is not None
        assert (answer.number, answer.generation) == (number, generation)
        assert answer.failure.code == "wire_version_unsupported"
        assert answer.failure.retryable
        assert answer.wire_version == WIRE_VERSION

    @given(ANYTHING)
    def test_is_none_to_what_is_about_nothing(self, document: Any) -> None:
        assert refusal(HOST_UUID, "vms.ensure", document, self.WHY) is None

    @given(ANYTHING, ANYTHING)
    def test_never_fails_itself(self, number: Any, generation: Any) -> None:
        document = {"vm_id": number, "generation": generation}
        for error in (self.WHY, CumuletError("x" * 5000)):
            answer = refusal(HOST_UUID, "vms.remove", document, error)
            assert answer is None or (answer.number, answer.generation) == (number, generation)


class TestTheAdvice:
    def test_is_to_upgrade_the_side_that_is_older(self) -> None:
        error = VersionUnsupported("another version")
        older = compatibility.problem("h2", "0.0.9", WIRE_VERSION - 1, error)
        newer = compatibility.problem("h2", "0.9.0", WIRE_VERSION + 1, error)
        assert "upgrade the agent of h2" in older.message
        assert "upgrade control" in newer.message
        assert {older.code, newer.code} == {"wire_version_unsupported"}

    def test_names_what_was_not_understood_within_one_version(self) -> None:
        error = MalformedDocument("HostReport refused: Invalid enum value 'hvf'")
        said = compatibility.problem("h2", "0.9.0", WIRE_VERSION, error)
        assert said.code == "malformed_document"
        assert "Invalid enum value 'hvf'" in said.message
        assert "one release on control and h2" in said.message


def test_a_host_that_is_not_understood_gets_no_new_server_and_says_why() -> None:
    facts: dict[str, Any] = {
        "location": "lab",
        "schedulable": True,
        "speaking": True,
        "network_mode": "routed",
        "cores": 8,
        "free_cores": 8,
        "free_memory_mb": 8192,
        "free_disk_gb": 100,
        "vm_count": 0,
        "has_image": True,
    }
    why = compatibility.problem("h1", "0.9.0", 2, VersionUnsupported("another version"))
    foreign = Candidate(host_id=1, name="h1", problems={why.code: why.message}, **facts)
    other = Candidate(host_id=2, name="h2", problems={"stunnel_missing": "install it"}, **facts)
    placement = place(Demand(cores=1, memory_mb=64, disk_gb=1), [foreign, other])
    assert [host.name for host in placement.ranked] == ["h2"]
    assert why.message in placement.rejected["h1"]
