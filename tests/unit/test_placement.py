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
        ({"network_mode": ""}, "cannot give public addresses"),
        ({"led_away": True}, "cannot give the addresses: they are led to the TAP of another host"),
        (
            {"pool_modes": BRIDGED},
            "is routed, but the addresses for it are bridged",
        ),
        ({"cores": 1}, "has only 1 cores of 2 needed: choose a smaller server type"),
        ({"free_cores": 1}, "has 1 cores free of 2 needed"),
        ({"free_memory_mb": 512}, "has 512 MiB of memory free of 1024 needed"),
        ({"free_disk_gb": -5}, "has 0 GiB of disk free of 10 needed"),
        ({"disk_full": True}, "has less than 1 GiB left on its disk: make room there"),
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
    outside = replace(HOST, name="h2", takes_members=False)
    placement = place(replace(DEMAND, private_net=True), [outside, HOST])
    assert [host.name for host in placement.ranked] == ["h1"]
    assert placement.rejected == {"h2": "cannot reach private networks: its agent makes no tunnels"}
    assert len(place(DEMAND, [outside, HOST]).ranked) == 2


# What a request that says nothing of it asks for: addresses, or ports where there is no pool.
EITHER = replace(DEMAND, ports={"tcp": 1})
PORTS = replace(DEMAND, public_ip=False, ports={"tcp": 1, "udp": 2})
INSIDE = replace(DEMAND, public_ip=False, private_net=True)
USER = replace(
    HOST,
    network_mode="vde",
    pooled=False,
    pool_modes=frozenset(),
    free_ports={"tcp": 10, "udp": 10},
)
TAPPED = replace(USER, pooled=True, pool_modes=frozenset({"routed"}))
UNGUARDED = "is in user mode, and enforces no firewalls: leave them out, or choose another location"
NO_SWITCH = {"vde_missing": "There is no vde_switch: `apt install vde2`."}


@pytest.mark.rootless
@pytest.mark.parametrize(
    ("demand", "candidate", "reason"),
    [
        (
            DEMAND,
            USER,
            "is in user mode, and no TAP that root prepared leads the addresses to it; leave out"
            " which address it shall have (`--without-ipv6`) to get forwarded ports",
        ),
        (
            EITHER,
            replace(USER, pooled=True),
            "is in user mode, and no TAP that root prepared leads the addresses to it; it forwards"
            " ports if `public_net.forwarded_ports` asks for them",
        ),
        (
            EITHER,
            replace(HOST, pooled=False, pool_modes=frozenset()),
            "has no public address to give: add a pool with `manage.py pool_add`",
        ),
        (
            DEMAND,
            replace(TAPPED, pool_modes=BRIDGED),
            "is vde, but the addresses for it are bridged; it forwards ports if"
            " `public_net.forwarded_ports` asks for them",
        ),
        (DEMAND, replace(TAPPED, problems=NO_SWITCH), NO_SWITCH["vde_missing"]),
        (INSIDE, replace(USER, problems=NO_SWITCH), NO_SWITCH["vde_missing"]),
        (
            INSIDE,
            replace(USER, takes_members=False),
            "cannot reach private networks: its agent lays no cables",
        ),
        (
            PORTS,
            HOST,
            "gives addresses, no forwarded ports: use a location with hosts in user mode, or leave"
            " `forwarded_ports` out",
        ),
        (PORTS, replace(USER, free_ports={}), "has no forwarded ports"),
        (
            PORTS,
            replace(USER, free_ports={}, problems={"slirp_missing": "Install libslirp0."}),
            "Install libslirp0.",
        ),
        (
            PORTS,
            replace(USER, free_ports={"tcp": 10, "udp": 1}),
            "has 1 udp ports free of 2 needed",
        ),
        (replace(PORTS, firewalled=True), USER, UNGUARDED),
        (replace(DEMAND, firewalled=True), TAPPED, UNGUARDED),
        (
            replace(PORTS, limited=True),
            USER,
            "is in user mode, and cannot limit traffic as the server type says: choose another type"
            " or location",
        ),
    ],
)
def test_a_host_in_user_mode_takes_no_server_that_asks_for_more_than_it_gives(
    demand: Demand, candidate: Candidate, reason: str
) -> None:
    assert place(demand, [candidate]).explain() == f"h1: {reason}"


@pytest.mark.rootless
@pytest.mark.parametrize(
    ("demand", "candidate"),
    [
        (EITHER, USER),
        (PORTS, USER),
        (PORTS, replace(USER, pooled=True)),
        (PORTS, replace(USER, problems=NO_SWITCH)),
        (DEMAND, TAPPED),
        (EITHER, TAPPED),
        (EITHER, replace(TAPPED, free_ports={})),
        (INSIDE, USER),
        (replace(DEMAND, public_ip=False), USER),
    ],
)
def test_a_host_in_user_mode_takes_what_it_can_give(demand: Demand, candidate: Candidate) -> None:
    assert place(demand, [candidate]).ranked


@pytest.mark.rootless
def test_other_hosts_are_held_to_no_rule_of_user_mode() -> None:
    assert place(replace(DEMAND, firewalled=True, limited=True), [HOST]).ranked
    assert place(EITHER, [HOST]).ranked
