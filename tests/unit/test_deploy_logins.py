"""The way into a server, as the API shows it, and what ssh is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploy.logins import Login, login_of, ssh_config

PORT = {"protocol": "tcp", "ip": "127.0.0.1", "port": 10007, "guest_port": 22}


def server(ipv4: str | None, *ports: dict[str, Any]) -> dict[str, Any]:
    net = {"ipv4": {"ip": ipv4} if ipv4 else None, "forwarded_ports": list(ports)}
    return {"name": "first", "public_net": net}


def test_a_public_address_is_the_way_in() -> None:
    assert login_of(server("198.51.100.10", PORT)) == Login("198.51.100.10", "198.51.100.10")


def test_without_one_the_port_that_leads_to_ssh_is() -> None:
    web = {**PORT, "port": 10008, "guest_port": 80}
    assert login_of(server(None, web, PORT)) == Login("first", "127.0.0.1", 10007)


def test_a_server_may_have_no_way_in() -> None:
    assert login_of(server(None, {**PORT, "ip": None})) is None
    assert login_of(server(None, {**PORT, "protocol": "udp"})) is None


def test_ssh_finds_a_server_by_its_name_at_its_port() -> None:
    text = ssh_config([], Path("/keys"), [Login("first", "127.0.0.1", 10007)])
    assert text.startswith("Host first\n    HostName 127.0.0.1\n    Port 10007\nHost *\n")
    assert "ProxyCommand" not in text


def test_ssh_enters_the_lab_for_every_address() -> None:
    text = ssh_config(["nsenter", "--net=/out"], Path("/keys"), [])
    assert "    ProxyCommand nsenter --net=/out nc -N %h %p\n" in text
