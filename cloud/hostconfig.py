"""What a host's processes know about themselves: the join bundle plus local choices.

`manage.py host_add` writes the bundle (name, broker address with the host's own credentials);
everything else is found on the machine or comes from CUMULET_HOST_* variables. Pure: standard
library only, so that agent, monitor and tests build it alike.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from pathlib import Path
from typing import ClassVar

from cloud.errors import CumuletError

BUNDLE_VERSION = 1
HEARTBEAT_SECONDS = 5.0
DEFAULT_METRICS = "127.0.0.1:9723"
DEFAULT_FORWARD_PORTS = (30000, 30999)
_REPORT = "report"
CABLE_PORT = 51821
_BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def report_key(host: str) -> str:
    """Under which the host publishes reports. A host of before there were lanes says "report"."""
    return f"{_REPORT}.{host}"


def reporter(key: str) -> str:
    """Whose reports come under this key; "" if it is nobody's own."""
    return key.removeprefix(f"{_REPORT}.") if key.startswith(f"{_REPORT}.") else ""


class BadBundle(CumuletError):
    """The join bundle cannot be used as it is."""

    code: ClassVar[str] = "bad_join_bundle"


@dataclass(frozen=True)
class MetricsEndpoint:
    """Where the monitor serves its metrics; an empty token lets everybody read."""

    address: IPv4Address | IPv6Address
    port: int
    token: str = ""

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        return self.address.is_loopback


@dataclass(frozen=True)
class TlsIdentity:
    """PEM texts by which hosts know each other at both ends of a cable."""

    authority: str
    certificate: str
    key: str


@dataclass(frozen=True)
class HostConfig:
    """A host's settings. The agent makes the directories.

    state_dir: disks, images, stored specs; survives reboots. run_dir: sockets and pid files;
    short, because a Unix socket path ends at 107 bytes. memory_mb and cores limit what this
    host offers (None: all of the machine). netns: path of the network namespace that QEMU must
    run in where a service manager starts it (None: the machine's own). protected: networks that
    guests must not call (None: all that the host is in). metrics: None: not served. bridge: the
    uplink becomes a port of a bridge, which guests with bridged addresses share. nat: other hosts
    cannot call this one, it calls them. tls: None in bundles of before cables were. boot_id: names
    this start of the machine where its kernel's own id cannot, as in a container (None: it can).

    Of a host in user mode: forward_ports, first and last of those that lead to guests, on
    forward_ip (None: the uplink's address); tap: the interface that root prepared (None: the one
    that belongs to the agent's user, if any). cable_port: where cables are accepted.
    """

    name: str
    broker_url: str
    state_dir: Path
    run_dir: Path
    uplink: str | None = None
    qemu_user: str | None = None
    cores: int | None = None
    memory_mb: int | None = None
    netns: str | None = None
    protected: tuple[IPv4Network | IPv6Network, ...] | None = None
    metrics: MetricsEndpoint | None = None
    bridge: bool = False
    nat: bool = False
    tls: TlsIdentity | None = None
    boot_id: str | None = None
    forward_ip: IPv4Address | None = None
    forward_ports: tuple[int, int] = DEFAULT_FORWARD_PORTS
    tap: str | None = None
    cable_port: int = CABLE_PORT

    @classmethod
    def from_environment(
        cls, env: Mapping[str, str] = os.environ, *, root: bool | None = None
    ) -> HostConfig:
        """Read CUMULET_BUNDLE and the CUMULET_HOST_* variables; raises BadBundle.

        `root`: whether it is the agent of the machine, or of a user of it (None: whoever asks).
        """
        root = os.geteuid() == 0 if root is None else root
        home = Path(env.get("HOME", "/"))
        bundle_path = env.get("CUMULET_BUNDLE") or (
            "/etc/cumulet/bundle.json" if root else f"{home}/.config/cumulet/bundle.json"
        )
        try:
            bundle = json.loads(Path(bundle_path).read_text())
            if bundle["version"] != BUNDLE_VERSION:
                raise BadBundle(
                    f"{bundle_path} is of version {bundle['version']}, this agent reads"
                    f" {BUNDLE_VERSION}: make a new one with `manage.py host_add --again`"
                )
            name, broker_url = str(bundle["host"]), str(bundle["broker_url"])
            tls = TlsIdentity(**bundle["tls"]) if "tls" in bundle else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadBundle(
                f"cannot read the join bundle {bundle_path} ({error!r}):"
                " copy the file that `manage.py host_add` wrote, or set CUMULET_BUNDLE"
            ) from error
        state = Path("/var/lib/cumulet/hosts" if root else f"{home}/.local/share/cumulet/hosts")
        state_dir = Path(env.get("CUMULET_HOST_STATE") or state / name)
        return cls(
            name=name,
            broker_url=broker_url,
            state_dir=state_dir,
            run_dir=Path(env.get("CUMULET_HOST_RUN") or _run_dir(env, name, state_dir, root)),
            uplink=env.get("CUMULET_HOST_UPLINK") or None,
            qemu_user=env.get("CUMULET_HOST_QEMU_USER") or None,
            cores=_whole(env, "CUMULET_HOST_CORES"),
            memory_mb=_whole(env, "CUMULET_HOST_MEMORY_MB"),
            netns=env.get("CUMULET_HOST_NETNS") or None,
            protected=_networks(env, "CUMULET_HOST_PROTECTED"),
            metrics=_endpoint(env, "CUMULET_HOST_METRICS"),
            bridge=_switch(env, "CUMULET_HOST_BRIDGE"),
            nat=_switch(env, "CUMULET_HOST_NAT"),
            tls=tls,
            boot_id=_boot_id(env),
            forward_ip=_address(env, "CUMULET_HOST_FORWARD_IP"),
            forward_ports=_ports(env, "CUMULET_HOST_FORWARD_PORTS"),
            tap=env.get("CUMULET_HOST_TAP") or None,
            cable_port=_whole(env, "CUMULET_HOST_CABLE_PORT") or CABLE_PORT,
        )


def _run_dir(env: Mapping[str, str], name: str, state_dir: Path, root: bool) -> Path:
    """A user's own is emptied at the end of the session, unless that user lingers: loginctl(1)."""
    if root:
        return Path("/run/cumulet") / name
    session = env.get("XDG_RUNTIME_DIR")
    return Path(session) / "cumulet" / name if session else state_dir / "run"


def _whole(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name)
    if not text:
        return None
    if not text.isdigit() or int(text) == 0:
        raise BadBundle(f"{name}={text!r} is not a whole number above 0: correct or unset it")
    return int(text)


def _boot_id(env: Mapping[str, str]) -> str | None:
    text = env.get("CUMULET_HOST_BOOT_ID") or None
    if text and not _BOOT_ID.fullmatch(text):
        raise BadBundle(f"CUMULET_HOST_BOOT_ID={text!r} is no UUID: correct or unset it")
    return text


def _switch(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name) or "off"
    if text not in ("on", "off"):
        raise BadBundle(f"{name}={text!r} is neither on nor off: correct or unset it")
    return text == "on"


def _networks(env: Mapping[str, str], name: str) -> tuple[IPv4Network | IPv6Network, ...] | None:
    """Networks such as "192.0.2.0/24", separated by spaces; "" means none at all."""
    text = env.get(name)
    if text is None:
        return None
    try:
        return tuple(ip_network(word) for word in text.split())
    except ValueError as error:
        raise BadBundle(f"{name}={text!r} is no list of networks: {error}") from error


def _address(env: Mapping[str, str], name: str) -> IPv4Address | None:
    text = env.get(name)
    try:
        return IPv4Address(text) if text else None
    except ValueError as error:
        raise BadBundle(f"{name}={text!r} is no IPv4 address: correct or unset it") from error


def _ports(env: Mapping[str, str], name: str) -> tuple[int, int]:
    """Two numbers such as "30000-30999"."""
    text = env.get(name)
    if not text:
        return DEFAULT_FORWARD_PORTS
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and 1024 <= int(first) <= int(last) < 65536):
        raise BadBundle(f"{name}={text!r} is no range such as 30000-30999: correct or unset it")
    return int(first), int(last)


def _endpoint(env: Mapping[str, str], name: str) -> MetricsEndpoint | None:
    """An address and a port such as "127.0.0.1:9723" or "[::1]:9723"; None for "off"."""
    text = env.get(name) or DEFAULT_METRICS
    if text == "off":
        return None
    host, _, port = text.rpartition(":")
    try:
        if not 0 < int(port) < 65536:
            raise ValueError(f"{port} is no port")
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        raise BadBundle(f"{name}={text!r} is neither ADDRESS:PORT nor off: {error}") from error
    return MetricsEndpoint(address, int(port), env.get(f"{name}_TOKEN", ""))
