"""The tunnel that private networks run in: made, kept as `networks.host.mesh` says, taken away.

The kernel's WireGuard where it has one, else `wireguard-go` in the foreground of a session of its
own: it outlives agent and monitor, its interface ends with it, so that one look at the interface
tells whether it lives, and whoever looks next starts it again with all its peers. The key pair is
made here, and the private key goes nowhere but into the tunnel.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pyroute2 import NetlinkError

from cloud import files, shell
from cloud.errors import CumuletError
from networks.host import links, nft, processes, routes
from networks.host.links import index_of, unless
from networks.host.mesh import Mesh, configuration

PROGRAM = "wireguard-go"
_SOCKETS = Path("/run/wireguard")
_SECONDS = 10.0
_POLL_SECONDS = 0.01
_KIND = "wireguard"
_SCOPE_LINK = 253  # RT_SCOPE_LINK, rtnetlink(7)
# Bursts of many guests meet in one queue.
_QUEUE = 5000


class TunnelFailed(CumuletError):
    """The tunnel to other hosts did not come up."""

    code: ClassVar[str] = "tunnel_failed"
    retryable: ClassVar[bool] = True


class WireguardMissing(CumuletError):
    """Neither the kernel nor a program can make a tunnel."""

    code: ClassVar[str] = "wireguard_missing"


@dataclass(frozen=True)
class Place:
    """The tunnel's interface and its host, the private key's file, and a log for the program."""

    interface: str
    host: str
    key: Path
    log: Path

    @property
    def public(self) -> Path:
        return self.key.with_suffix(".pub")


def ensure_key(place: Place) -> str:
    """The public key; makes the pair where there is none. Raises CommandError or OSError.

    The public one is kept too, because it is told with every heartbeat. Whoever removes the private
    one gets another pair. One caller at a time.
    """
    public = place.public
    if not place.key.exists():
        public.unlink(missing_ok=True)
        private = shell.run(["wg", "genkey"], timeout=_SECONDS).stdout
        files.write(place.key, private.encode(), alone=True)
    elif public.exists() and public.stat().st_mtime >= place.key.stat().st_mtime:
        return public.read_text().strip()
    told = shell.run(["wg", "pubkey"], input=place.key.read_text(), timeout=_SECONDS).stdout.strip()
    files.write(public, told.encode())
    return told


def ensure(netlink: Any, place: Place, mesh: Mesh, mtu: int, rules: str) -> bool:
    """The tunnel with these peers and the host's rules about it; whether anything was changed.

    The rules come first: what is sent through the tunnel must not leave beside it. After
    `ensure_key`. Raises TunnelFailed, WireguardMissing, NetlinkError, CommandError or OSError.
    """
    made_from = _digest(place.public.read_text(), mesh, mtu, rules)
    private = place.key.read_text().strip()
    if links.signature(netlink, place.interface) == (place.host, made_from):
        return False
    nft.apply(rules)
    if index_of(netlink, place.interface) is None:
        _start(netlink, place)
    index = index_of(netlink, place.interface)
    shell.run(
        ["wg", "syncconf", place.interface, "/dev/stdin"],
        input=configuration(mesh, private),
        timeout=_SECONDS,
    )
    _address(netlink, index, mesh.address)
    links.silence(place.interface)
    netlink.link("set", index=index, mtu=mtu, txqlen=_QUEUE, state="up")
    _lead(netlink, index, mesh)
    links.sign(netlink, place.interface, place.host, made_from)
    return True


def lives(netlink: Any, place: Place) -> bool:
    return index_of(netlink, place.interface) is not None


def is_left(netlink: Any, place: Place) -> bool:
    """Whether there is anything to remove: a program that was killed leaves its socket."""
    return lives(netlink, place) or _socket(place).exists()


def remove(netlink: Any, place: Place) -> None:
    """Nobody is reached any more, and nobody reaches this host."""
    links.remove_tap(netlink, place.interface)
    pid = processes.find(PROGRAM, place.interface)
    if pid is not None:
        processes.end(pid, PROGRAM, place.interface)
    _socket(place).unlink(missing_ok=True)


def _start(netlink: Any, place: Place) -> None:
    try:
        netlink.link("add", ifname=place.interface, kind=_KIND)
        return
    except NetlinkError as error:
        if error.code != errno.EOPNOTSUPP:
            raise
    if shutil.which(PROGRAM) is None:
        raise WireguardMissing(
            f"this kernel has no WireGuard, and {PROGRAM} is not installed, so no tunnel leads to"
            f" other hosts: load the kernel's module, or install the package {PROGRAM}"
        )
    # One that lost its interface serves nobody, and keeps the next one from starting.
    remove(netlink, place)
    said = "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1"
    shell.detach(["env", said, PROGRAM, "-f", place.interface], log=place.log)
    deadline = time.monotonic() + _SECONDS
    while not (lives(netlink, place) and answers(place)):
        if time.monotonic() > deadline:
            raise TunnelFailed(f"{PROGRAM} did not come up within {_SECONDS:g} s: see {place.log}")
        time.sleep(_POLL_SECONDS)


def answers(place: Place) -> bool:
    """Whether the program takes orders. `wg` must not be used to find that out.

    It deletes a socket that nobody listens at, as one is for a moment between bind and listen, and
    the program ends without its socket.
    """
    with socket.socket(socket.AF_UNIX) as calling:
        calling.settimeout(_SECONDS)
        try:
            calling.connect(str(_socket(place)))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _socket(place: Place) -> Path:
    return _SOCKETS / f"{place.interface}.sock"


def _address(netlink: Any, index: int | None, address: str) -> None:
    unless(errno.EEXIST, netlink.addr, "add", index=index, address=address, prefixlen=32)
    for entry in netlink.get_addr(index=index):
        if (other := entry.get_attr("IFA_LOCAL")) not in (None, address):
            netlink.addr("del", index=index, address=other, prefixlen=entry["prefixlen"])


def _lead(netlink: Any, index: int | None, mesh: Mesh) -> None:
    """Routes to the peers, and to nobody else."""
    wanted = {peer.tunnel_ip for peer in mesh.peers}
    seen = _led(netlink, index)
    for address in wanted - seen:
        route = {"dst": f"{address}/32", "oif": index, "scope": _SCOPE_LINK}
        netlink.route("replace", proto=routes.PROTOCOL, prefsrc=mesh.address, **route)
    for address in seen - wanted:
        unless(errno.ESRCH, netlink.route, "del", dst=f"{address}/32", oif=index)


def _led(netlink: Any, index: int | None) -> set[str]:
    found: Sequence[Any] = list(netlink.get_routes(oif=index, table=254))
    return {str(route.get_attr("RTA_DST")) for route in found if route["proto"] == routes.PROTOCOL}


def _digest(public: str, mesh: Mesh, mtu: int, rules: str) -> str:
    """Without the private key, whose digest is nobody's business either."""
    text = public + configuration(mesh, "") + f"{mesh.address} {mtu}\n{rules}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
