"""What stunnel is told of a host's cables, word for word, and what may come in by them."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from networks.host import cable_port, cable_rules, cable_service, cables, dhcp, plan
from networks.host.cable_service import SocatMissing, StunnelMissing
from networks.host.cables import End, Kit
from networks.spec import CableSpec, CablesSpec, MemberSpec, RouteSpec
from tests.documents import HOST_UUID
from tests.unit.test_private_plan import LOCAL, MACS, NETWORK

GOLDEN = Path(__file__).parent / "golden"
KIT = Kit(
    Path("/run/r1/cables/authority.pem"),
    Path("/run/r1/cables/identity.pem"),
    "6d61726b",
    Path("/run/r1/cables/sockets"),
    51821,
)
SWITCH = Path("/run/r1/networks/5/switch")
SPOKE = CablesSpec(3, uplink=CableSpec("h1", "192.0.2.11:51821"))
HUB = CablesSpec(3, accepts=("r1", "r2"))
GATEWAY = structs.replace(
    NETWORK,
    cables=HUB,
    routes=(RouteSpec("192.168.0.0/16", "10.0.1.13"),),
    members=(
        *NETWORK.members,
        MemberSpec(MACS[2], HOST_UUID, ("10.0.1.13", "10.0.1.60")),
    ),
)


def test_a_cable_has_one_name_at_both_ends_and_another_one_in_each_layout() -> None:
    spoke = structs.replace(NETWORK, cables=SPOKE)
    (calling,) = cables.ends([spoke], "r1")
    assert calling == End("r1.n5-l3", 5, "h1", "192.0.2.11:51821")
    accepted = cables.ends([GATEWAY], "h1")
    assert accepted == [End("r1.n5-l3", 5, "r1"), End("r2.n5-l3", 5, "r2")]
    (later,) = cables.ends([structs.replace(spoke, cables=structs.replace(SPOKE, layout=4))], "r1")
    assert later.name != calling.name
    assert cables.ends([NETWORK], "r1") == []


def test_stunnel_takes_calls_of_just_the_hosts_that_the_documents_name() -> None:
    text = cables.accepting(cables.ends([GATEWAY], "h1"), KIT)
    assert text == (GOLDEN / "cables-accepting.conf").read_text()


def test_stunnel_calls_for_a_cable_with_a_plug_as_its_standard_input_and_output() -> None:
    (end,) = cables.ends([structs.replace(NETWORK, cables=SPOKE)], "r1")
    assert cables.calling(end, KIT) == (GOLDEN / "cables-calling.conf").read_text()
    assert cables.caller(cables.plug_words(end, SWITCH), Path("/run/r1/cables/calling-5.conf")) == [
        "socat",
        'EXEC:"vde_plug -D r1.n5-l3 vde:///run/r1/networks/5/switch"',
        'EXEC:"stunnel /run/r1/cables/calling-5.conf",nofork',
    ]


def test_a_plug_is_made_for_each_connection_to_the_socket_of_an_accepted_end() -> None:
    end, other = cables.ends([GATEWAY], "h1")
    socket = cables.socket(end, KIT.sockets)
    assert cables.listener(cables.plug_words(end, SWITCH), socket) == [
        "socat",
        f'UNIX-LISTEN:"{socket}",mode=600,fork,max-children=2',
        'EXEC:"vde_plug -D r1.n5-l3 vde:///run/r1/networks/5/switch",nofork',
    ]
    assert cables.socket(other, KIT.sockets) != socket


def test_a_host_without_the_programs_of_cables_is_told_their_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StunnelMissing, match="`apt install stunnel4`"):
        cable_service.require_stunnel()
    with pytest.raises(SocatMissing, match="`apt install socat`"):
        cable_service.require_socat()


def test_members_behind_cables_are_at_the_gateways_port_for_them() -> None:
    wanted = plan.wanted(GATEWAY, LOCAL)
    assert (MACS[2], "cc5") in wanted.ports
    assert (MACS[0], "cu7-1") in wanted.ports
    assert ("10.0.1.60", MACS[2]) in wanted.neighbours
    assert MACS[2] not in dict(plan.wanted(structs.replace(GATEWAY, cables=None), LOCAL).ports)


def test_a_gateway_lets_in_what_members_behind_cables_may_say() -> None:
    members = plan.cabled(GATEWAY, [mac for mac, _ in LOCAL])
    text = cable_rules.port_rules(GATEWAY, members)
    assert text == (GOLDEN / "cable-port.nft").read_text()


def test_without_members_behind_cables_nothing_comes_in() -> None:
    assert "{  }" not in cable_rules.port_rules(GATEWAY, [])


def test_the_gateway_answers_their_questions_for_dhcp() -> None:
    (tap,) = cable_port.as_taps(GATEWAY, plan.cabled(GATEWAY, [MACS[0]]), 1390)
    assert dhcp.host_line(tap) == f"{MACS[2]},set:cc020000000003,10.0.1.13\n"
    said = dhcp.option_lines(tap, "")
    assert "option:mtu,1390" in said
    assert "tag:cc020000000003,121,10.0.0.0/16,10.0.1.1,192.168.0.0/16,10.0.1.1" in said
