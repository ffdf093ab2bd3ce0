"""The wire contract: a document arrives whole, or is refused with the field that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.wire import MalformedDocument, decode, encode
from networks.spec import NicSpec
from vms.spec import DiskSpec, FileSpec, ImageSpec, PowerGoal, VmSpec

UUID = "11111111-2222-3333-4444-555555555555"
SPEC = VmSpec(
    vm_id=7,
    uuid=UUID,
    host_uuid=UUID,
    generation=3,
    hostname="web-1",
    power=PowerGoal.RUNNING,
    cores=2,
    memory_mb=1024,
    image=ImageSpec(
        image_id=1,
        disk=FileSpec(url="https://example.org/a.qcow2", sha256="ab" * 32, bytes=10),
        format="qcow2",
    ),
    disks=(DiskSpec(disk_id=1, index=0, size_gb=10),),
    nics=(
        NicSpec(
            nic_id=1, index=0, mac="52:54:00:00:00:01", mode="public_routed", ipv4="198.51.100.7"
        ),
    ),
    ssh_keys=("ssh-ed25519 AAAA me",),
)


def test_a_document_survives_the_wire() -> None:
    assert decode(json.loads(json.dumps(encode(SPEC))), VmSpec) == SPEC


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hostname", "web-1,readonly=on"),
        ("hostname", "../../etc"),
        ("hostname", "web\n"),
        ("uuid", "../" + UUID),
        ("vm_id", "7"),
        ("vm_id", 0),
        ("vm_id", -1),
        ("generation", 1.5),
        ("power", "explode"),
        ("cores", 0),
        ("disks", []),
        ("ssh_keys", ["ssh-ed25519 AAAA\ncommand"]),
        ("user_data", "x" * 40_000),
        ("surprise", 1),
    ],
)
def test_a_field_out_of_bounds_refuses_the_whole_document(field: str, value: Any) -> None:
    with pytest.raises(MalformedDocument, match="VmSpec refused"):
        decode({**encode(SPEC), field: value}, VmSpec)


@pytest.mark.parametrize("data", [None, [], "x", {}, {"version": 2}, {"version": "1"}])
def test_another_wire_version_is_refused_and_says_what_to_do(data: object) -> None:
    with pytest.raises(MalformedDocument, match="same Cumulet release"):
        decode(data, VmSpec)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_no_value_of_a_field_gets_past_the_types_unseen(value: Any) -> None:
    try:
        spec = decode({**encode(SPEC), "hostname": value}, VmSpec)
    except MalformedDocument:
        return
    assert spec.hostname == value
    assert value.replace("-", "").replace(".", "").isascii()


@pytest.mark.parametrize("given", ["203.0.113.77", "203.0.113.77/32", "2001:db8:a:77::/64"])
def test_a_floating_address_is_an_address_or_a_network(given: str) -> None:
    document = encode(SPEC)
    document["nics"][0]["floating"] = [given]
    assert decode(document, VmSpec).nics[0].floating == (given,)
