"""The rules of private networks, word for word."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from msgspec import structs

from networks.host import private_rules
from networks.host.private_rules import Underlay
from networks.spec import NicSpec, RouteSpec
from tests.documents import SPEC
from tests.unit.test_private_plan import NETWORK

GOLDEN = Path(__file__).parent / "golden"
MEMBER = structs.replace(
    SPEC.nics[0], mode="private", ipv4="10.0.1.11", prefix4=24, gateway="10.0.1.1", network_id=5
)
ROUTER = structs.replace(MEMBER, floating=("10.0.1.50",), mbit_out=100)
ROUTED = structs.replace(NETWORK, routes=(RouteSpec("172.20.0.0/24", "10.0.1.50"),))
UNDERLAY = Underlay("cw9999999988887", "10.255.0.1", "192.0.2.11", (ip_network("192.0.2.0/24"),))


@pytest.mark.parametrize(
    ("nic", "golden"),
    [
        pytest.param(MEMBER, "private-member.nft", id="a member"),
        pytest.param(ROUTER, "private-router.nft", id="one that a route leads to"),
    ],
)
def test_what_a_guest_may_send_is_as_written_down(nic: NicSpec, golden: str) -> None:
    assert private_rules.nic_rules("cu7-1", nic, ROUTED) == (GOLDEN / golden).read_text()


def test_what_keeps_networks_apart_is_as_written_down() -> None:
    assert private_rules.host_rules(UNDERLAY) == (GOLDEN / "private-host.nft").read_text()


def test_what_a_gateway_lets_pass_is_as_written_down() -> None:
    assert private_rules.gateway_rules() == (GOLDEN / "private-gateway.nft").read_text()


def test_a_host_that_protects_nothing_has_no_rule_about_it() -> None:
    assert "ip daddr {" not in private_rules.host_rules(replace(UNDERLAY, protected=()))
