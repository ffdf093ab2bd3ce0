"""Names on a host come from ids, and fit where the kernel puts them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vms.host.paths import HostPaths, PathTooLong, tap_name

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
