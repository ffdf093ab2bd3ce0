"""What is done to an uplink, in which order, and what takes it back."""

from __future__ import annotations

import pytest

from networks.host.bridge_plan import (
    BRIDGE,
    Change,
    Interface,
    Operation,
    bridging,
    is_over,
    unbridging,
)

UPLINK = Interface(
    name="eth0",
    mac="02:00:00:00:00:01",
    mtu=1500,
    addresses=(
        {"address": "192.0.2.11", "prefixlen": 24, "label": "eth0"},
        {"address": "192.0.2.12", "prefixlen": 24, "label": "eth0:1"},
        {"address": "192.0.2.13", "prefixlen": 24, "label": "eth0:much-more"},
    ),
    routes=(
        {"dst": "default", "gateway": "192.0.2.1", "priority": 100},
        {"dst": "100.64.0.0/24", "table": 77},
    ),
    neighbours=({"dst": "192.0.2.99", "lladdr": "02:00:00:00:00:99"},),
    dependants=(("cu7-0", {"dst": "198.51.100.7/32", "prefsrc": "192.0.2.11"}),),
    sysctls={"ipv4/conf/{}/rp_filter": "2"},
    accept_dad="1",
    addr_gen_mode="3",
)


def done(operations: list[Operation]) -> list[Change]:
    return [operation.do for operation in operations if operation.do]


def story(changes: list[Change]) -> list[str]:
    """What is made and unmade, in a line each."""
    return [
        " ".join(
            (
                *(change.what, change.verb, change.device),
                str(change.arguments.get("address") or change.arguments.get("dst") or ""),
            )
        ).strip()
        for change in changes
        if change.what in ("addr", "route", "neigh") or change.verb in ("add", "del")
    ]


MOVE = [
    "neigh del eth0 192.0.2.99",
    "route del eth0 default",
    "route del eth0 100.64.0.0/24",
    "addr del eth0 192.0.2.13",
    "addr del eth0 192.0.2.12",
    "addr del eth0 192.0.2.11",
    f"addr add {BRIDGE} 192.0.2.11",
    f"addr add {BRIDGE} 192.0.2.12",
    f"addr add {BRIDGE} 192.0.2.13",
    # A gateway is only accepted behind a route that leads to it.
    f"route add {BRIDGE} 100.64.0.0/24",
    f"route add {BRIDGE} default",
    f"neigh add {BRIDGE} 192.0.2.99",
    "route replace cu7-0 198.51.100.7/32",
]


def test_all_that_the_uplink_has_moves_to_a_bridge_with_its_mac() -> None:
    operations = bridging(UPLINK)
    assert story(done(operations)) == [f"link add {BRIDGE} {UPLINK.mac}", *MOVE]


def test_on_the_way_back_the_bridge_goes_last() -> None:
    bridge = Interface(BRIDGE, UPLINK.mac, 1500, addresses=UPLINK.addresses[:1])
    assert story(done(unbridging(bridge, "eth0"))) == [
        f"addr del {BRIDGE} 192.0.2.11",
        "addr add eth0 192.0.2.11",
        f"link del {BRIDGE}",
    ]


def test_a_removed_bridge_ends_the_way_back_and_only_that() -> None:
    there, back = bridging(UPLINK), unbridging(UPLINK, "eth9")
    assert is_over(back, bridge_exists=False)
    assert not is_over(back, bridge_exists=True)
    assert not is_over(there, bridge_exists=False)
    assert not is_over([], bridge_exists=False)


def test_the_bridge_is_whole_before_the_uplink_joins_it() -> None:
    changes = done(bridging(UPLINK))
    joined = changes.index(Change("link", "set", "eth0", {"master": BRIDGE}))
    raised = changes.index(Change("link", "set", BRIDGE, {"state": "up"}))
    filtered = {"name": f"ipv4/conf/{BRIDGE}/rp_filter", "value": "2"}
    assert changes.index(Change("sysctl", "set", BRIDGE, filtered)) < raised < joined


def test_addresses_work_at_once_and_are_tested_again_later() -> None:
    delays = [
        (change.device, change.arguments["value"])
        for change in done(bridging(UPLINK))
        if "accept_dad" in change.arguments.get("name", "")
    ]
    assert delays == [("eth0", "0"), (BRIDGE, "0"), (BRIDGE, "1"), ("eth0", "1")]


@pytest.mark.parametrize(
    ("address", "label"),
    [("192.0.2.11", None), ("192.0.2.12", f"{BRIDGE}:1"), ("192.0.2.13", None)],
)
def test_a_label_follows_the_interface_s_name_if_it_fits(address: str, label: str | None) -> None:
    (added,) = [
        change
        for change in done(bridging(UPLINK))
        if (change.verb, change.arguments.get("address")) == ("add", address)
    ]
    assert added.arguments.get("label") == label


def test_whatever_takes_something_away_can_give_it_back() -> None:
    for operation in (*bridging(UPLINK), *unbridging(UPLINK, "eth9")[:-1]):
        if operation.do and operation.do.verb in ("add", "del"):
            assert operation.undo
            assert operation.undo.device == operation.do.device
            assert operation.undo.verb != operation.do.verb
