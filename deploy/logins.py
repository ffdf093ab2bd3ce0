"""How a person gets into a server by SSH: at its public address, or by a port of its host.

Used by `deploy.start` and by tests. Which of them it is stands in the API alone; `ssh_config` is
written so that `ssh -F` finds either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import httpx

from cloud.errors import CumuletError
from deploy import sites
from deploy.state import Instance, write_private

_SSH = 22
_PER_PAGE = 50


class NoLogin(CumuletError):
    """The API shows no way to a server's SSH."""

    code: ClassVar[str] = "no_way_to_ssh"


@dataclass(frozen=True)
class Login:
    """`name`: what `ssh -F ssh_config` takes; `host` and `port`: where that leads."""

    name: str
    host: str
    port: int = _SSH

    @property
    def endpoint(self) -> str:
        return self.host if self.port == _SSH else f"{self.host} port {self.port}"

    @property
    def uri(self) -> str:
        """For `ssh` without a configuration of its own for the server."""
        return f"ssh://root@{self.host}:{self.port}"


def of_server(instance: Instance, token: str, name: str) -> Login:
    """The way into the server of that name; raises NoLogin."""
    for server in _servers(instance, token, name=name):
        login = login_of(server)
        if login is not None:
            return login
    raise NoLogin(f"{name} has neither a public IPv4 address nor a forwarded port for SSH")


def forwarded(instance: Instance, token: str) -> list[Login]:
    """Every server that is reached by a port of its host, under its name."""
    found = (login_of(server) for server in _servers(instance, token))
    return [login for login in found if login and login.name != login.host]


def login_of(server: dict[str, Any]) -> Login | None:
    """The way into a server as the API describes it."""
    net = server["public_net"]
    if net["ipv4"]:
        return Login(net["ipv4"]["ip"], net["ipv4"]["ip"])
    for forward in net.get("forwarded_ports", ()):
        if forward["ip"] and (forward["protocol"], forward["guest_port"]) == ("tcp", _SSH):
            return Login(server["name"], forward["ip"], forward["port"])
    return None


def write_ssh_config(instance: Instance, logins: Sequence[Login] = ()) -> Path:
    """Lets `ssh -F` reach guests as the world does: of a lab, from the outside namespace.

    Addresses and ports are lent again to other guests, so host keys are accepted on first sight.
    """
    config = instance.state / "ssh_config"
    write_private(config, ssh_config(sites.of(instance).enter, instance.state / "ssh", logins))
    return config


def ssh_config(enter: Sequence[str], keys: Path, logins: Sequence[Login]) -> str:
    """`enter`: the words before a program that is to see guests' addresses."""
    hosts = "".join(
        f"Host {login.name}\n    HostName {login.host}\n    Port {login.port}\n" for login in logins
    )
    proxy = f"    ProxyCommand {' '.join(enter)} nc -N %h %p\n" if enter else ""
    return (
        f"{hosts}Host *\n{proxy}"
        f"    IdentityFile {keys}/id_ed25519\n"
        "    IdentitiesOnly yes\n"
        "    User root\n"
        "    StrictHostKeyChecking no\n"
        "    UserKnownHostsFile /dev/null\n"
        "    LogLevel ERROR\n"
        "    ConnectTimeout 10\n"
        "    ServerAliveInterval 15\n"
    )


def _servers(instance: Instance, token: str, **query: str) -> list[dict[str, Any]]:
    """All servers of the project, page after page."""
    found: list[dict[str, Any]] = []
    page: int | None = 1
    while page:
        answer = httpx.get(
            f"{instance.api_url}/servers",
            headers={"Authorization": f"Bearer {token}"},
            params={**query, "page": page, "per_page": _PER_PAGE},
            timeout=30,
        )
        answer.raise_for_status()
        document = answer.json()
        found += document["servers"]
        page = document["meta"]["pagination"]["next_page"]
    return found
