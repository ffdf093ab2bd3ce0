"""Names on a host come from ids, and fit where the kernel puts them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks.host import plan
from vms.host.paths import HostPaths, PathTooLong, server_of, tap_name

PATHS = HostPaths(Path("/var/lib/cumulet/hosts/h1"), Path("/run/cumulet/h1"))
ROW_IDS = st.integers(min_value=1, max_value=2**53 - 1)
NIC_INDEXES = st.integers(min_value=0, max_value=7)


@given(ROW_IDS, NIC_INDEXES)
def test_every_tap_name_fits_into_an_interface_name(vm_id: int, index: int) -> None:
    name = tap_name(vm_id, index)
    assert len(name) <= 15
    assert name.startswith("cu")


@given(st.tuples(ROW_IDS, NIC_INDEXES), st.tuples(ROW_IDS, NIC_INDEXES))
def test_no_two_nics_share_a_tap_name(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (tap_name(*one) == tap_name(*other)) == (one == other)


def test_a_vm_has_its_files_below_the_state_and_its_sockets_below_the_run_directory() -> None:
    vm = PATHS.vm(7)
    assert vm.disk(0) == Path("/var/lib/cumulet/hosts/h1/vms/7/disk-0.qcow2")
    assert vm.seed == Path("/var/lib/cumulet/hosts/h1/vms/7/seed.iso")
    assert vm.qmp == Path("/run/cumulet/h1/7/qmp")


def test_the_largest_id_still_gives_sockets_that_fit() -> None:
    assert len(str(PATHS.vm(2**53 - 1).guest_agent)) <= 107


def test_a_run_directory_that_is_too_deep_for_sockets_is_refused_with_the_setting_to_change() -> (
    None
):
    deep = HostPaths(Path("/s"), Path("/run") / ("x" * 110))
    with pytest.raises(PathTooLong, match="CUMULET_HOST_RUN"):
        _ = deep.vm(7).qmp
    with pytest.raises(PathTooLong, match="CUMULET_HOST_RUN"):
        deep.switch(5)


@given(ROW_IDS, NIC_INDEXES)
def test_a_tap_says_whose_it_is(vm_id: int, index: int) -> None:
    assert server_of(tap_name(vm_id, index)) == vm_id


@pytest.mark.parametrize(
    "name",
    [
        "tap-0",
        "cu-0",
        "cu7",
        "cu7-8",
        "cu7-",
        "cut-123",
        "cu07-0",
        "cuA-0",
        "cu7-0-0",
        "eth0",
        "cuz-\u0661",
    ],
)
def test_a_name_that_is_no_tap_of_ours_is_nobody_s(name: str) -> None:
    assert server_of(name) is None


@given(ROW_IDS)
def test_an_interface_of_a_private_network_says_whose_it_is(network_id: int) -> None:
    name = plan.names(network_id)
    for interface in (name.bridge, name.tunnel, name.gateway, name.exit, name.cables):
        assert plan.network_of(interface) == network_id


@pytest.mark.parametrize("name", ["br0", "cb", "cb0", "cb-1", "cw6cac60b57f2d", "cuz-0", "cbZ"])
def test_other_interfaces_are_of_no_network(name: str) -> None:
    assert plan.network_of(name) is None
