"""The store of networks: the newest document wins, and a network may come back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec import structs

from networks.spec import NetworkRemoval, NetworkSpec
from tests.documents import HOST_UUID, SPEC
from tests.unit.test_private_plan import NETWORK
from vms.host import netstore
from vms.host.documents import DamagedStore, OldGeneration
from vms.host.paths import HostPaths


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    made = HostPaths(tmp_path / "state", tmp_path / "run")
    for directory in (made.networks, made.locks):
        directory.mkdir(parents=True)
    return made


def removal(generation: int) -> NetworkRemoval:
    return NetworkRemoval(NETWORK.network_id, HOST_UUID, generation)


def spec(generation: int) -> NetworkSpec:
    return structs.replace(NETWORK, generation=generation)


def test_what_was_accepted_is_read_back(paths: HostPaths) -> None:
    netstore.accept(paths, NETWORK)
    nic = structs.replace(SPEC.nics[0], mode="private", network_id=5)
    assert netstore.network_of(paths, nic) == NETWORK
    assert netstore.network_of(paths, SPEC.nics[0]) is None


@pytest.mark.parametrize(
    ("first", "late"),
    [(spec(5), spec(4)), (removal(5), spec(4)), (spec(5), removal(4)), (removal(5), spec(5))],
    ids=str,
)
def test_what_is_older_is_refused(
    paths: HostPaths, first: netstore.Wanted, late: netstore.Wanted
) -> None:
    netstore.accept(paths, first)
    with pytest.raises(OldGeneration):
        netstore.accept(paths, late)
    assert netstore.wanted(paths, 5) == first


def test_a_network_may_come_back(paths: HostPaths) -> None:
    netstore.accept(paths, removal(5))
    assert netstore.specs(paths) == []
    netstore.accept(paths, spec(6))
    assert netstore.specs(paths) == [spec(6)]


def test_a_crash_between_two_files_leaves_the_newer_one_in_force(paths: HostPaths) -> None:
    netstore.accept(paths, spec(4))
    old = paths.network(5).read_bytes()
    netstore.accept(paths, removal(5))
    paths.network(5).write_bytes(old)
    assert netstore.wanted(paths, 5) == removal(5)


def test_the_last_accepted_comes_last(paths: HostPaths) -> None:
    other = structs.replace(NETWORK, network_id=6)
    for number, document in enumerate((other, NETWORK)):
        netstore.accept(paths, document)
        os.utime(paths.network(document.network_id), (number, number))
    assert netstore.specs(paths) == [other, NETWORK]


def test_a_damaged_document_is_not_taken_for_none(paths: HostPaths) -> None:
    paths.network(5).write_text("{")
    with pytest.raises(DamagedStore, match=r"5\.json"):
        netstore.wanted(paths, 5)


def test_a_network_whose_document_is_damaged_can_be_removed_and_come_back(
    paths: HostPaths,
) -> None:
    netstore.accept(paths, spec(5))
    paths.network(5).write_text("{")
    with pytest.raises(DamagedStore):
        netstore.accept(paths, spec(6))
    netstore.accept(paths, removal(6))
    assert netstore.wanted(paths, 5) == removal(6)
    netstore.accept(paths, spec(7))
    assert netstore.specs(paths) == [spec(7)]
