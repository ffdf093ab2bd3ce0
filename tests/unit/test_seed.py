"""What a guest is told: the NoCloud documents, and the disk that carries them."""

from __future__ import annotations

import io
import json

import pytest
from msgspec import structs
from pycdlib import PyCdlib

from tests.documents import SPEC, VM_UUID, a_spec
from vms.host import seed


def test_meta_data_names_the_vm_by_its_uuid_and_its_hostname() -> None:
    assert seed.meta_data(SPEC) == {
        "instance-id": VM_UUID,
        "local-hostname": "web-1",
        "public-keys": ["ssh-ed25519 AAAA me@example.org"],
    }


def test_the_network_is_one_address_and_a_gateway_that_is_on_the_link() -> None:
    assert seed.network_config(SPEC.nics) == {
        "version": 2,
        "ethernets": {
            "nic0": {
                "match": {"macaddress": "02:00:00:00:00:07"},
                "set-name": "eth0",
                "addresses": ["198.51.100.7/32"],
                "mtu": 1500,
                "routes": [{"to": "0.0.0.0/0", "via": "172.31.1.1", "on-link": True}],
                "nameservers": {"addresses": ["203.0.113.53"]},
            }
        },
    }


def test_ipv6_is_the_first_address_of_the_guest_s_own_network() -> None:
    nic = structs.replace(SPEC.nics[0], ipv4=None, ipv6="2001:db8:a:7::/64")
    config = seed.network_config((nic,))["ethernets"]["nic0"]
    assert config["addresses"] == ["2001:db8:a:7::1/64"]
    assert config["routes"] == [{"to": "::/0", "via": "fe80::1", "on-link": True}]


def test_a_bridged_guest_has_its_address_in_the_outside_network_or_asks_there() -> None:
    nic = structs.replace(
        SPEC.nics[0], mode="public_bridged", prefix4=24, gateway="198.51.100.1", dns=()
    )
    config = seed.network_config((nic,))["ethernets"]["nic0"]
    assert config["addresses"] == ["198.51.100.7/24"]
    assert config["routes"][0]["via"] == "198.51.100.1"
    asking = structs.replace(nic, ipv4=None, dhcp=True)
    config = seed.network_config((asking,))["ethernets"]["nic0"]
    assert config["dhcp4"] is True
    assert not config.keys() & {"addresses", "routes"}


def test_only_the_first_nic_has_the_default_route() -> None:
    second = structs.replace(SPEC.nics[0], index=1, mac="02:00:00:00:00:08", dns=())
    ethernets = seed.network_config((SPEC.nics[0], second))["ethernets"]
    assert "routes" not in ethernets["nic1"]
    assert ethernets["nic1"]["set-name"] == "eth1"


@pytest.mark.parametrize("user_data", ["#!/bin/sh\necho ä\n", "#cloud-config\nruncmd: [x]\n"])
def test_user_data_arrives_as_it_was_given(user_data: str) -> None:
    assert seed.texts(a_spec(user_data=user_data))["user-data"] == user_data


def test_without_user_data_the_guest_has_nothing_to_do() -> None:
    assert seed.texts(SPEC)["user-data"] == "#cloud-config\n{}\n"


def test_a_private_nic_is_told_of_its_networks_routes() -> None:
    private = structs.replace(
        SPEC.nics[0],
        index=1,
        mode="private",
        ipv4="10.0.1.11",
        prefix4=24,
        gateway="10.0.1.1",
        routes=("10.0.0.0/16",),
    )
    config = seed.network_config((private,))["ethernets"]["nic1"]
    assert config["addresses"] == ["10.0.1.11/24"]
    assert config["routes"] == [{"to": "10.0.0.0/16", "via": "10.0.1.1", "on-link": True}]


def test_a_password_opens_root_login_and_is_sent_as_a_hash_only() -> None:
    hashed = "$2b$10$abcdefghijklmnopqrstuv"
    vendor = seed.vendor_data(a_spec(root_password_hash=hashed))
    assert vendor["chpasswd"]["users"] == [{"name": "root", "password": hashed, "type": "hash"}]
    assert vendor["ssh_pwauth"] is True


def test_without_a_password_nobody_logs_in_by_one() -> None:
    assert seed.vendor_data(SPEC) == {"disable_root": False}


def test_every_document_but_the_user_s_is_json() -> None:
    texts = seed.texts(a_spec(hostname="a-b.example.org"))
    json.loads(texts["meta-data"])
    json.loads(texts["network-config"])
    json.loads(texts["vendor-data"].removeprefix("#cloud-config\n"))


def test_the_disk_is_labelled_cidata_and_holds_the_files_under_their_names() -> None:
    texts = seed.texts(SPEC)
    image = PyCdlib()
    image.open_fp(io.BytesIO(seed.iso(texts)))
    assert image.pvd.volume_identifier.strip() == b"cidata"
    for name, text in texts.items():
        for path in ({"joliet_path": f"/{name}"}, {"rr_path": f"/{name}"}):
            content = io.BytesIO()
            image.get_file_from_iso_fp(content, **path)
            assert content.getvalue().decode() == text
