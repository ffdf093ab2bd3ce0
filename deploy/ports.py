"""Which TCP ports of 127.0.0.1 a cloud uses, and that no two clouds choose the same.

Between the choice of a port and the start of what listens on it minutes may pass, in which another
cloud may start. So whoever chooses a port claims it, by an abstract Unix socket of its name: all
users of the machine meet those, and the kernel takes them back when the process ends. By then
either a program listens on the port, or the start failed.
"""

from __future__ import annotations

import atexit
import random
import socket
from typing import ClassVar

from msgspec import Struct

from cloud.errors import CumuletError

# Ports of a user's machine that lead to guests, so many in one piece.
FORWARDS = 100
_CLAIM = "\0cumulet-port-{}"
_claims: dict[int, socket.socket] = {}


@atexit.register
def _give_back() -> None:
    """What the kernel would do as well, but with a warning of Python for each."""
    while _claims:
        _claims.popitem()[1].close()


class NoPorts(CumuletError):
    """Too many of this machine's ports are taken."""

    code: ClassVar[str] = "no_free_ports"


class Ports(Struct, frozen=True, forbid_unknown_fields=True):
    """TCP ports on 127.0.0.1."""

    web: int
    flower: int
    postgres: int
    broker: int
    broker_api: int
    broker_metrics: int
    broker_distribution: int
    epmd: int
    # Of a host that shares the machine with its cloud.
    metrics: int = 0
    cables: int = 0


def choose_ports(web: int = 8000, flower: int = 5555) -> Ports:
    """Free ports, claimed; the two that people type are the usual ones if possible."""
    usual = {"web": web, "flower": flower}
    return Ports(**{name: choose_port(usual.get(name, 0)) for name in Ports.__struct_fields__})


def choose_port(preferred: int = 0) -> int:
    """A free port, claimed: the preferred one if possible.

    Drawn below the range that the kernel hands to outgoing connections, so that a stopped
    cloud finds its ports free again.
    """
    port = preferred or _drawn()
    while not claim(port):
        port = _drawn()
    return port


def choose_forwards() -> int:
    """The first of FORWARDS free ports in a row, apart from those that `choose_ports` draws.

    Its claim stands for all of them.
    """
    starts = list(range(10000, 20000, FORWARDS))
    random.shuffle(starts)
    for first in starts:
        if all(_is_free(port) for port in range(first, first + FORWARDS)) and claim(first):
            return first
    raise NoPorts(f"no {FORWARDS} TCP ports in a row are free between 10000 and 20000: free some")


def claim(port: int) -> bool:
    """Make a free port this process's to give away until it ends; False if that cannot be."""
    if not _is_free(port):
        return False
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(_CLAIM.format(port))
    except OSError:
        name.close()
        return False
    _claims[port] = name
    return True


def keep(port: int) -> bool:
    """The same for a port that this process may have claimed before."""
    return _is_free(port) if port in _claims else claim(port)


def _drawn() -> int:
    return random.randrange(20000, 32000)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
