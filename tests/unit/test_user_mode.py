"""What a host in user mode tells of itself, and keeps its guests from."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from msgspec import structs

from cloud.hostconfig import HostConfig
from cloud.wire import decode, encode
from networks.host.prepared_tap import PreparedTap
from tests.documents import HOST_REPORT, HOST_UUID
from vms.host import accelerator, host, problems, user_mode
from vms.host.host import Host, UnusableHost
from vms.host.paths import HostPaths
from vms.spec import HostReport


def a_host(place: Path, broker: str = "127.0.0.1") -> Host:
    paths = HostPaths(place / "state", place / "run")
    url, here = f"amqp://u1:secret@{broker}:5672/", IPv4Address("127.0.0.1")
    config = HostConfig("u1", url, paths.state, paths.run, forward_ip=here)
    made = Host(config, paths, HOST_UUID, "boot", None)
    made.__dict__["routes_networks"] = False
    return made


@pytest.mark.parametrize(
    ("addresses", "kept_from"),
    [
        pytest.param(["203.0.113.9", "2001:db8::9"], {"203.0.113.9/32"}, id="of both families"),
        pytest.param(["2001:db8::9"], set(), id="of IPv6, which no guest speaks"),
    ],
)
def test_guests_are_kept_from_the_brokers_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, addresses: list[str], kept_from: set[str]
) -> None:
    def resolved(_name: str, _port: None, family: int = 0, type: int = 0) -> list[Any]:
        found = [(AF_INET6 if ":" in one else AF_INET, one) for one in addresses]
        answer = [(kind, type, 6, "", (one, 0)) for kind, one in found if family in (0, kind)]
        if not answer:
            raise socket.gaierror(socket.EAI_ADDRFAMILY, "no address of this family")
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(user_mode, "_configured", list)
    own = a_host(tmp_path, f"broker-of-{tmp_path.name.lower().replace('_', '-')}")
    assert set(user_mode.near(own).protected) == kept_from


def test_a_tap_with_more_networks_than_a_report_holds_silences_no_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    led = tuple(f"198.51.{number}.0/24" for number in range(100))
    monkeypatch.setattr(user_mode, "free_tap", lambda _: PreparedTap("cut-ada", led, taken=False))
    ranges = user_mode.public_ranges(a_host(tmp_path))
    report = structs.replace(HOST_REPORT, public_ranges=ranges)
    assert decode(encode(report), HostReport) == report


def test_what_is_lacking_is_told_where_the_agents_uid_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    monkeypatch.setattr(accelerator, "is_forbidden", lambda _: True)
    mending = {one.code: one.message for one in problems.problems(a_host(tmp_path))}
    assert "usermod -aG kvm USER" in mending["kvm_forbidden"]


def test_roots_agent_without_the_capability_to_connect_guests_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(a_host(tmp_path).config, qemu_user="nobody")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(host, "_has_net_admin", lambda: False)
    with pytest.raises(UnusableHost, match="run it as an ordinary user"):
        Host.open(config)
    assert not config.state_dir.exists()
