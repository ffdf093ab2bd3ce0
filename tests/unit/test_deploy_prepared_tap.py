"""The script that prepares a TAP for a user's host."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from deploy.prepared_tap import (
    BadPool,
    Surroundings,
    Tap,
    check_surroundings,
    name_for,
    pool_commands,
    pools,
    preparation,
    removal,
    rules,
)


def tap(*led: str, former: tuple[str, ...] = ()) -> Tap:
    protected = (ip_network("192.0.2.0/24"), ip_network("fd00::/64"))
    return Tap("ada", 1000, pools(led), tuple(map(ip_network, former)), "eth0", protected)


@pytest.mark.parametrize("user", ["ada", "a-very-long-name", "ada.lovelace", "ada$"])
def test_every_user_has_an_interface_that_the_kernel_and_nftables_can_name(user: str) -> None:
    name = name_for(user, 1000)
    assert name.startswith("cut-")
    assert len(name) <= 15
    assert name in ("cut-ada", "cut-1000")


def test_each_address_of_a_small_pool_is_answered_for() -> None:
    script = preparation(tap("198.51.100.0/30"))
    assert script.count("ip neigh replace proxy 198.51.100.") == 4
    assert "ip route replace 198.51.100.0/30 dev cut-ada" in script


def test_of_ipv6_the_first_address_of_each_network_is_answered_for() -> None:
    script = preparation(tap("2001:db8:a::/63"))
    assert "proxy 2001:db8:a::1 dev eth0" in script
    assert "proxy 2001:db8:a:1::1 dev eth0" in script


def test_a_large_pool_has_to_be_led_here_by_its_router() -> None:
    script = preparation(tap("2001:db8:a::/48"))
    assert "neigh replace proxy" not in script
    assert "its router has to lead it here" in script


def test_a_pool_that_is_no_longer_named_leads_here_no_longer() -> None:
    script = preparation(tap("198.51.100.0/30", former=("203.0.113.8/31",)))
    assert "ip route del 203.0.113.8/31 dev cut-ada" in script
    assert script.count("ip neigh del proxy 203.0.113.") == 2


def test_no_rule_is_touched_but_those_of_its_own_table() -> None:
    for text in (preparation(tap("198.51.100.0/24")), removal(tap("198.51.100.0/24"))):
        assert "flush" not in text
        assert {line for line in text.splitlines() if line.startswith("delete ")} == {
            "delete table inet cumulet_cut-ada"
        }


def test_the_networks_of_the_machine_are_closed_to_guests() -> None:
    text = rules(tap("198.51.100.0/24"))
    assert "elements = { 192.0.2.0/24 }" in text
    assert "elements = { fd00::/64 }" in text


def test_control_is_told_every_pool() -> None:
    told = pool_commands(tap("198.51.100.0/24", "2001:db8:a::/48"))
    assert [line.split()[3] for line in told] == ["198.51.100.0/24", "2001:db8:a::/48"]


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param([], id="none"),
        pytest.param([f"198.51.{n}.0/24" for n in range(65)], id="more than a report holds"),
        pytest.param(["198.51.100.1/24"], id="an address with a length"),
        pytest.param(["somewhere"], id="no network"),
        pytest.param(["2001:db8::/65"], id="too small"),
        pytest.param(["127.0.0.0/8"], id="loopback"),
        pytest.param(["fe80::/64"], id="link-local"),
        pytest.param(["198.51.100.0/24", "198.51.100.0/25"], id="overlapping"),
        pytest.param(["0.0.0.0/0"], id="every address of IPv4"),
        pytest.param(["::/0"], id="every address of IPv6"),
    ],
)
def test_a_pool_that_cannot_be_led_is_refused(texts: list[str]) -> None:
    with pytest.raises(BadPool):
        pools(texts)


AROUND = Surroundings(
    addresses=tuple(map(ip_address, ("192.0.2.30", "10.1.0.5", "2001:db8::30"))),
    gateways=(ip_address("192.0.2.1"),),
    uplink=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")),
    others=tuple(map(ip_network, ("10.1.0.0/16", "192.0.2.192/27"))),
)


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        pytest.param("192.0.2.0/24", "holds 192.0.2.30, an address", id="the uplink's network"),
        pytest.param("192.0.2.16/28", "holds 192.0.2.30, an address", id="the machine's own part"),
        pytest.param("192.0.2.0/28", "holds 192.0.2.1, a gateway", id="the gateway's part"),
        pytest.param("10.0.0.0/8", "holds 10.1.0.5, an address", id="around another network"),
        pytest.param("10.1.9.0/24", "overlaps 10.1.0.0/16", id="a part of another network"),
        pytest.param("192.0.2.200/29", "overlaps 192.0.2.192/27", id="a nearer network"),
        pytest.param("2001:db8::/48", "holds 2001:db8::30, an address", id="around that of IPv6"),
    ],
)
def test_a_pool_takes_nothing_from_the_machine_itself(pool: str, said: str) -> None:
    with pytest.raises(BadPool, match=said):
        check_surroundings(pools([pool]), AROUND)


@pytest.mark.parametrize("pool", ["198.51.100.0/24", "192.0.2.128/28", "2001:db8:a::/48"])
def test_free_addresses_are_led_also_if_they_are_a_part_of_the_uplinks_network(pool: str) -> None:
    check_surroundings(pools([pool]), AROUND)
