"""Placement: who may take a VM, who is best, and a reason for everybody else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vms.placement import Candidate, Demand, place

DEMAND = Demand(cores=2, memory_mb=1024, disk_gb=10, location="lab", public_ip=True)
HOST = Candidate(
    host_id=1,
    name="h1",
    location="lab",
    schedulable=True,
    speaking=True,
    network_mode="routed",
    cores=4,
    free_cores=8,
    free_memory_mb=4096,
    free_disk_gb=100,
    vm_count=0,
    has_image=True,
    pool_modes=frozenset({"routed"}),
)
BRIDGED = frozenset({"bridged"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"location": "moon"}, "is in location moon"),
        ({"schedulable": False}, "is closed for new servers"),
        ({"revoked": True, "speaking": False}, "is revoked"),
        ({"speaking": False}, "does not answer"),
        ({"network_mode": "vde"}, "cannot give public addresses"),
        (
            {"pool_modes": BRIDGED},
            "is routed, but the addresses for it are bridged",
        ),
        ({"cores": 1}, "has only 1 cores of 2 needed"),
        ({"free_cores": 1}, "has 1 cores free of 2 needed"),
        ({"free_memory_mb": 512}, "has 512 MiB of memory free of 1024 needed"),
        ({"free_disk_gb": -5}, "has 0 GiB of disk free of 10 needed"),
    ],
)
def test_a_host_that_cannot_take_the_vm_says_why(change: dict[str, object], reason: str) -> None:
    placement = place(DEMAND, [replace(HOST, **change)])
    assert not placement.ranked
    assert placement.explain() == f"h1: {reason}"


def test_a_bridged_host_routes_public_addresses_as_well() -> None:
    assert place(DEMAND, [replace(HOST, network_mode="bridged")]).ranked


def test_a_cloud_without_hosts_says_how_to_add_one() -> None:
    assert "host_add" in place(DEMAND, []).explain()


def test_a_host_with_the_image_wins_over_an_emptier_one() -> None:
    emptier = replace(HOST, name="h2", has_image=False, free_memory_mb=8192)
    assert [host.name for host in place(DEMAND, [emptier, HOST]).ranked] == ["h1", "h2"]


def test_among_equals_the_emptier_host_wins() -> None:
    fuller = replace(HOST, name="h0", free_memory_mb=2048)
    assert [host.name for host in place(DEMAND, [fuller, HOST]).ranked] == ["h1", "h0"]


def test_without_a_location_any_host_will_do() -> None:
    anywhere = replace(DEMAND, location=None)
    assert place(anywhere, [replace(HOST, location="moon")]).ranked


def test_a_bridged_host_gives_addresses_of_either_kind() -> None:
    for modes in (frozenset({"routed"}), BRIDGED, BRIDGED | {"routed"}):
        assert place(DEMAND, [replace(HOST, network_mode="bridged", pool_modes=modes)]).ranked


def test_pools_do_not_matter_to_a_vm_without_public_addresses() -> None:
    inside = replace(DEMAND, public_ip=False)
    assert place(inside, [replace(HOST, network_mode="vde", pool_modes=BRIDGED)]).ranked


def test_only_a_host_of_the_mesh_takes_a_server_with_a_private_network() -> None:
    outside = replace(HOST, name="h2", in_mesh=False)
    placement = place(replace(DEMAND, private_net=True), [outside, HOST])
    assert [host.name for host in placement.ranked] == ["h1"]
    assert placement.rejected == {"h2": "cannot reach private networks: its agent makes no tunnels"}
    assert len(place(DEMAND, [outside, HOST]).ranked) == 2
