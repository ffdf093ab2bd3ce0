"""How control joins the switches of hosts in user mode: a star, kept while its hub is good."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as some

from networks.private.cabling import Star, Station, arrange, cables
from networks.spec import CableSpec, CablesSpec

R1 = Station(1, "r1", "192.0.2.21:51821", member=True)
R2 = Station(2, "r2", "192.0.2.22:51821", member=True)
R3 = Station(3, "r3", None, member=True)
ROOT = Station(4, "h1", "192.0.2.11:51821", meshed=True)
OTHER = Station(5, "h2", "192.0.2.12:51821", meshed=True, member=True)


def test_each_host_lays_one_cable_to_the_hub_which_accepts_them() -> None:
    star = arrange([R1, R2, R3, ROOT], Star())
    assert star == Star(hub=4, layout=1)
    uplink = CableSpec("h1", "192.0.2.11:51821")
    assert cables([R1, R2, R3, ROOT], star) == {
        1: CablesSpec(1, uplink=uplink),
        2: CablesSpec(1, uplink=uplink),
        3: CablesSpec(1, uplink=uplink),
        4: CablesSpec(1, accepts=("r1", "r2", "r3")),
    }


def test_a_gateway_with_members_comes_before_one_without() -> None:
    assert arrange([R1, ROOT, OTHER], Star()).hub == 5


def test_without_a_gateway_a_host_in_user_mode_is_the_hub() -> None:
    star = arrange([R2, R1, R3], Star())
    assert star == Star(hub=1, layout=1)
    assert cables([R2, R1, R3], star)[1] == CablesSpec(1, accepts=("r2", "r3"))


def test_a_host_of_the_mesh_that_is_no_hub_has_no_cables() -> None:
    assert 5 not in cables([R1, ROOT, OTHER], Star(hub=4, layout=7))


def test_the_present_hub_stays_while_it_speaks() -> None:
    assert arrange([R1, ROOT, OTHER], Star(hub=4, layout=7)) == Star(hub=4, layout=7)


def test_a_silent_hub_is_replaced_by_one_that_speaks_under_a_new_number() -> None:
    silent = replace(ROOT, speaking=False)
    assert arrange([R1, silent, OTHER], Star(hub=4, layout=7)) == Star(hub=5, layout=8)
    assert arrange([R1, R2, silent], Star(hub=4, layout=7)) == Star(hub=1, layout=8)


def test_silence_alone_takes_no_hub_away_where_no_other_one_speaks() -> None:
    stations = [replace(one, speaking=False) for one in (R1, R3, ROOT)]
    assert arrange(stations, Star(hub=4, layout=7)) == Star(hub=4, layout=7)


def test_a_gateway_takes_over_from_a_mere_switch() -> None:
    assert arrange([R1, R2, ROOT], Star(hub=1, layout=1)) == Star(hub=4, layout=2)


def test_nobody_lays_cables_where_no_host_in_user_mode_has_members_or_none_accepts_any() -> None:
    assert arrange([ROOT, OTHER], Star(hub=4, layout=7)) == Star(None, 7)
    assert arrange([R3], Star()) == Star()
    assert cables([R3], Star()) == {}


@some.composite
def clouds(draw: some.DrawFn) -> list[Station]:
    """Of the same hosts each time, in any state."""
    return [
        Station(
            host_id=number,
            name=f"h{number}",
            endpoint=draw(some.sampled_from([None, f"192.0.2.{number}:51821"])),
            meshed=number > 4,
            speaking=draw(some.booleans()),
            member=draw(some.booleans()),
        )
        for number in range(1, 8)
    ]


def edges(held: dict[int, CablesSpec | None], names: dict[str, int]) -> list[tuple[int, int]]:
    """The cables that come about: those whose two ends are of one layout."""
    return [
        (host, hub)
        for host, spec in held.items()
        if spec and spec.uplink
        for hub in [names[spec.uplink.host]]
        for other in [held[hub]]
        if other and other.layout == spec.layout and f"h{host}" in other.accepts
    ]


def has_loop(laid: list[tuple[int, int]]) -> bool:
    group = {number: number for number in range(1, 8)}
    for one, other in laid:
        if group[one] == group[other]:
            return True
        joined = group[one]
        group = {n: group[other] if g == joined else g for n, g in group.items()}
    return False


@given(clouds(), clouds(), some.lists(some.booleans(), min_size=8, max_size=8))
def test_no_mix_of_two_layouts_has_a_loop_or_two_gateways_for_one_host(
    before: list[Station], after: list[Station], heard: list[bool]
) -> None:
    """Each host has either heard of the later layout or not yet."""
    first = arrange(before, Star())
    second = arrange(after, first)
    old, new = cables(before, first), cables(after, second)
    held = {n: (new if heard[n] else old).get(n) for n in range(1, 8)}
    laid = edges(held, {f"h{n}": n for n in range(1, 8)})
    assert not has_loop(laid)
    hubs = dict(laid)
    assert len(hubs) == len(laid)
    assert not hubs.keys() & set(hubs.values())


@given(clouds(), clouds())
def test_the_same_cloud_again_changes_no_hub(before: list[Station], after: list[Station]) -> None:
    star = arrange(after, arrange(before, Star()))
    assert arrange(after, star) == star
