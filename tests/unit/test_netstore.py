"""The store of networks: the newest document wins, and a network may come back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec import structs

from networks.spec import NetworkRemoval, NetworkReport, NetworkSpec
from tests.documents import HOST_UUID, SPEC
from tests.unit.hosts import a_host
from tests.unit.test_private_plan import NETWORK
from vms.host import documents, netstore, networks
from vms.host.documents import DamagedStore, OldGeneration
from vms.host.host import Host
from vms.host.paths import HostPaths


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return a_host(tmp_path)


@pytest.fixture
def paths(host: Host) -> HostPaths:
    return host.paths


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


def gone(paths: HostPaths, generation: int) -> None:
    netstore.accept(paths, removal(generation))
    netstore.settle(paths, 5, generation)


def test_what_is_gone_and_told_is_not_looked_at_again(paths: HostPaths) -> None:
    netstore.accept(paths, spec(4))
    gone(paths, 5)
    assert netstore.network_ids(paths) == []
    assert netstore.wanted(paths, 5) is None
    assert netstore.fences(paths) == [removal(5)]


def test_what_is_gone_and_told_leaves_no_lock(host: Host) -> None:
    netstore.accept(host.paths, removal(5))
    told = NetworkReport(5, HOST_UUID, 5, present=False, converged=True, at=0.0)
    networks.settle(host, told)
    assert networks.converge(host, 5) is None
    assert list(host.paths.locks.iterdir()) == []


@pytest.mark.parametrize("late", [spec(4), spec(5), removal(4)], ids=str)
def test_what_is_gone_stays_gone(paths: HostPaths, late: netstore.Wanted) -> None:
    gone(paths, 5)
    with pytest.raises(OldGeneration):
        netstore.accept(paths, late)
    assert netstore.wanted(paths, 5) is None


def test_control_that_asks_again_for_a_removal_is_answered_again(paths: HostPaths) -> None:
    gone(paths, 5)
    netstore.accept(paths, removal(5))
    assert netstore.wanted(paths, 5) == removal(5)


def test_what_is_gone_may_come_back_and_go_again(paths: HostPaths) -> None:
    gone(paths, 5)
    netstore.accept(paths, spec(6))
    assert (netstore.specs(paths), netstore.fences(paths)) == ([spec(6)], [])
    gone(paths, 7)
    assert (netstore.specs(paths), netstore.fences(paths)) == ([], [removal(7)])


def test_a_crash_while_it_comes_back_leaves_the_newer_word_in_force(paths: HostPaths) -> None:
    gone(paths, 5)
    old = paths.network_fence(5).read_bytes()
    netstore.accept(paths, spec(6))
    paths.network_fence(5).write_bytes(old)
    with pytest.raises(OldGeneration):
        netstore.accept(paths, spec(5))
    netstore.accept(paths, spec(6))
    assert (netstore.specs(paths), netstore.fences(paths)) == ([spec(6)], [])


@pytest.mark.parametrize("meanwhile", [spec(6), removal(6)], ids=str)
def test_a_newer_word_that_came_meanwhile_is_not_settled(
    paths: HostPaths, meanwhile: netstore.Wanted
) -> None:
    netstore.accept(paths, removal(5))
    netstore.accept(paths, meanwhile)
    netstore.settle(paths, 5, 5)
    assert netstore.wanted(paths, 5) == meanwhile


def test_a_network_that_a_crash_left_beside_its_removal_does_not_come_back(
    paths: HostPaths,
) -> None:
    netstore.accept(paths, spec(4))
    old = paths.network(5).read_bytes()
    netstore.accept(paths, removal(5))
    paths.network(5).write_bytes(old)
    netstore.settle(paths, 5, 5)
    assert netstore.wanted(paths, 5) is None


def test_a_damaged_fence_hides_no_other_and_does_not_keep_the_network_from_being_removed(
    paths: HostPaths,
) -> None:
    gone(paths, 5)
    paths.network_fence(5).write_text("{")
    documents.write(paths.network_fence(6), structs.replace(removal(2), network_id=6))
    assert [fence.network_id for fence in netstore.fences(paths)] == [6]
    gone(paths, 7)
    assert netstore.fences(paths)[0] == removal(7)


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
