"""The micro guest's reading of its seed, run by a real busybox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cloud import shell

SCRIPTS = Path(__file__).parents[2] / "deploy/images/micro/guest/lib/cumulet"
KEY = "ssh-ed25519 AAAA me@home"


def awk(script: str, text: str) -> str:
    return shell.run(
        ["busybox", "awk", "-f", SCRIPTS / script], input=text, timeout=10, ok=(0, 1)
    ).stdout


def flat(document: Any) -> list[str]:
    return awk("json.awk", json.dumps(document)).splitlines()


def plan(ethernets: dict[str, Any]) -> list[str]:
    config = {"version": 2, "ethernets": ethernets}
    return awk("network.awk", awk("json.awk", json.dumps(config, indent=1))).splitlines()


def test_json_becomes_one_line_for_every_scalar() -> None:
    assert flat({"a": {"b": ["x", 1, True]}, "c": None}) == [
        "/a/b/0\tx",
        "/a/b/1\t1",
        "/a/b/2\ttrue",
        "/c\tnull",
    ]


@pytest.mark.parametrize("document", [{}, [], {"a": []}, {"a": {}}])
def test_empty_json_becomes_nothing(document: Any) -> None:
    assert flat(document) == []


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ('say "hi" \\ there', 'say "hi" \\ there'),
        ("a/b", "a/b"),
        ("A\u0041", "AA"),
        ("caf\u00e9", "caf?"),
        ("first\nsecond\tthird", "first second third"),
        ("braces { [ ] } , :", "braces { [ ] } , :"),
    ],
)
def test_a_json_string_stays_itself_and_on_one_line(text: str, read: str) -> None:
    assert flat({"key": text}) == [f"/key\t{read}"]


@pytest.mark.parametrize("text", ['{"a": }', '{"a" 1}', '{"a": 1', "[1, 2", '{"a": "b}', "{} {}"])
def test_what_is_no_json_is_refused(text: str) -> None:
    result = shell.run(
        ["busybox", "awk", "-f", SCRIPTS / "json.awk"], input=text, timeout=10, ok=(1,)
    )
    assert "json.awk:" in result.stderr


def test_a_routed_public_address_becomes_steps_in_order() -> None:
    steps = plan(
        {
            "nic0": {
                "routes": [{"to": "0.0.0.0/0", "via": "172.31.1.1", "on-link": True}],
                "nameservers": {"addresses": ["192.0.2.53"]},
                "match": {"macaddress": "52:54:00:AA:BB:01"},
                "set-name": "eth0",
                "addresses": ["198.51.100.10/32", "2001:db8::1/64"],
                "mtu": 1400,
            }
        }
    )
    assert steps == [
        "link 52:54:00:aa:bb:01 eth0 1400",
        "address 52:54:00:aa:bb:01 198.51.100.10/32",
        "address 52:54:00:aa:bb:01 2001:db8::1/64",
        "route 52:54:00:aa:bb:01 0.0.0.0/0 172.31.1.1 onlink -",
        "nameserver 192.0.2.53",
    ]


def test_several_interfaces_keep_their_order_and_their_own_settings() -> None:
    steps = plan(
        {
            "nic0": {"match": {"macaddress": "52:54:00:00:00:01"}, "dhcp4": True},
            "eth7": {"addresses": ["10.0.0.2/16"], "routes": [{"to": "10.1.0.0/16", "metric": 5}]},
        }
    )
    assert steps == [
        "link 52:54:00:00:00:01 - -",
        "dhcp 52:54:00:00:00:01",
        "link eth7 - -",
        "address eth7 10.0.0.2/16",
        "route eth7 10.1.0.0/16 - - 5",
    ]


def test_an_interface_without_addresses_is_only_brought_up() -> None:
    assert plan({"nic0": {"match": {"macaddress": "52:54:00:00:00:01"}, "dhcp4": False}}) == [
        "link 52:54:00:00:00:01 - -"
    ]


def test_keys_are_read_from_a_cloud_config() -> None:
    config = (
        f"#cloud-config\nssh_authorized_keys:\n  - {KEY}\n  - '{KEY} 2'\npackages:\n  - nginx\n"
    )
    assert awk("cloud-config-keys.awk", config).splitlines() == [KEY, f"{KEY} 2"]


def test_a_cloud_config_without_keys_gives_none() -> None:
    assert awk("cloud-config-keys.awk", "#cloud-config\nruncmd:\n- ssh_authorized_keys\n") == ""
