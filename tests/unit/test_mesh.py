"""Who is a peer of this host, by all documents together."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from networks.host import mesh
from networks.spec import PeerSpec
from tests.documents import HOST_UUID
from tests.unit.test_private_plan import NETWORK, SECOND, THIRD

GOLDEN = Path(__file__).parent / "golden"
KEYS = ("A" * 43 + "=", "B" * 43 + "=", "C" * 43 + "=")
FIRST_PEER = NETWORK.peers[0]
BEHIND_NAT = PeerSpec(THIRD, KEYS[1], "10.255.0.3")
OTHER = structs.replace(NETWORK, network_id=6, peers=(FIRST_PEER, BEHIND_NAT))


def test_a_peer_of_several_networks_is_one_peer() -> None:
    made = mesh.mesh([NETWORK, OTHER])
    assert made
    assert (made.address, made.port) == ("10.255.0.1", 51820)
    assert made.peers == (FIRST_PEER, BEHIND_NAT)


def test_a_peer_that_no_document_names_any_more_is_none() -> None:
    made = mesh.mesh([structs.replace(NETWORK, peers=()), structs.replace(OTHER, peers=())])
    assert made
    assert made.peers == ()


def test_without_a_network_there_is_no_tunnel() -> None:
    assert mesh.mesh([]) is None


def test_of_two_endpoints_the_one_that_was_told_last_is_right() -> None:
    moved = structs.replace(FIRST_PEER, endpoint="192.0.2.99:51820")
    later = structs.replace(OTHER, peers=(moved,))
    first, last = mesh.mesh([NETWORK, later]), mesh.mesh([later, NETWORK])
    assert first
    assert first.peers == (moved,)
    assert last
    assert last.peers == (FIRST_PEER,)


def test_a_tunnel_address_belongs_to_the_host_that_was_named_with_it_last() -> None:
    heir = PeerSpec(THIRD, KEYS[2], FIRST_PEER.tunnel_ip)
    made = mesh.mesh([NETWORK, structs.replace(OTHER, peers=(heir,))])
    assert made
    assert made.peers == (heir,)


def test_the_configuration_is_as_written_down() -> None:
    made = mesh.mesh([OTHER])
    assert made
    assert mesh.configuration(made, KEYS[2]) == (GOLDEN / "mesh.conf").read_text()


def test_the_interfaces_name_fits_and_is_the_hosts_own() -> None:
    assert len(mesh.interface(HOST_UUID)) == 15
    assert mesh.interface(HOST_UUID) != mesh.interface(SECOND)
