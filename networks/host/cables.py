"""The documents of all private networks → this host's ends of cables, and the words for their
programs. Pure.

A cable joins the switches of two hosts: TLS between two stunnels, each with a `vde_plug` in its
network's switch. Both ends know it by one name, made of the network, the layout and the host that
calls, and sent as SNI: ends of two layouts do not match. Each end takes only a certificate of the
cloud's authority for the one host that the document names.

All accepted ends are in one stunnel, which reads its file again when they change. Each end that
calls has its own, because a stunnel that reads its file again calls once more beside the call that
there is, and two cables between two switches are a loop.

stunnel starts no plug itself: it would join it by a connection over the loopback, which any other
user of the host could make first. A stunnel that calls has one end of a pair of sockets as its
standard input and output, its plug the other one. The one that accepts finds the plug of each end
at a socket in a directory that is closed to everybody else. socat makes both and is then gone:
`nofork` has it become the program, so that nothing stands between stunnel and the plug.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from networks.spec import NetworkSpec

STUNNEL, SOCAT, PLUG = "stunnel", "socat", "vde_plug"

# A peer that is gone without a word is known to be so after 25 seconds.
_PATIENCE = ("SO_KEEPALIVE=1", "TCP_KEEPIDLE=10", "TCP_KEEPINTVL=5", "TCP_KEEPCNT=3")
_LOOKUP = "cables"
# No host is called so: a call for no cable that we know ends here.
_NOBODY = "nobody.invalid"
# The newest call is the cable; the one before may not have noticed yet that nobody is there.
_PLUGS_AT_ONCE = 2
# A socket's path has room for 107 bytes, and the name of a cable may be long.
_SOCKET_DIGITS = 16


@dataclass(frozen=True)
class End:
    """`peer`: the host at the other one; `endpoint`: where to call it, None: it calls."""

    name: str
    network_id: int
    peer: str
    endpoint: str | None = None


@dataclass(frozen=True)
class Kit:
    """What this host's ends are made with.

    authority, identity: files with the authority's certificate, and the host's with its key;
    mark: changes with them; sockets: a directory of those of accepted ends, open to the user of the
    programs only; port: where cables are accepted.
    """

    authority: Path
    identity: Path
    mark: str
    sockets: Path
    port: int


def ends(specs: Iterable[NetworkSpec], own: str) -> list[End]:
    """Of the host of this name."""
    found = []
    for spec in specs:
        if spec.cables is None:
            continue
        network, layout = spec.network_id, spec.cables.layout
        uplink = spec.cables.uplink
        if uplink:
            found.append(End(_name(network, layout, own), network, uplink.host, uplink.endpoint))
        found += [End(_name(network, layout, one), network, one) for one in spec.cables.accepts]
    return found


def accepting(accepted: Iterable[End], kit: Kit) -> str:
    """The file of the stunnel that takes calls."""
    lines = [
        *_common(kit, "l"),
        f"[{_LOOKUP}]",
        f"accept = 0.0.0.0:{kit.port}",
        f"checkHost = {_NOBODY}",
        f"connect = {kit.sockets / _NOBODY}",
    ]
    for end in accepted:
        lines += [
            f"[{end.name}]",
            f"sni = {_LOOKUP}:{end.name}",
            f"checkHost = {end.peer}",
            f"connect = {socket(end, kit.sockets)}",
        ]
    return _text(lines)


def calling(end: End, kit: Kit) -> str:
    """The file of the stunnel that calls once for one cable, and ends with it."""
    lines = [
        *_common(kit, "r"),
        "client = yes",
        f"connect = {end.endpoint}",
        f"sni = {end.name}",
        f"checkHost = {end.peer}",
    ]
    return _text(lines)


def socket(end: End, sockets: Path) -> Path:
    """Where stunnel finds the plug of an accepted end."""
    return sockets / hashlib.sha256(end.name.encode()).hexdigest()[:_SOCKET_DIGITS]


def plug_words(end: End, switch: Path) -> tuple[str, ...]:
    """The arguments of the `vde_plug` at this end, by which it is known among processes."""
    return ("-D", end.name, f"vde://{switch}")


def caller(plug: Sequence[str], file: Path) -> list[str]:
    """The command line of what becomes a stunnel with this file, joined to such a plug."""
    return [SOCAT, _program(PLUG, *plug), f"{_program(STUNNEL, str(file))},nofork"]


def listener(plug: Sequence[str], socket: Path) -> list[str]:
    """The command line of what has such a plug for each connection to the socket."""
    listening = f'UNIX-LISTEN:"{socket}",mode=600,fork,max-children={_PLUGS_AT_ONCE}'
    return [SOCAT, listening, f"{_program(PLUG, *plug)},nofork"]


def _common(kit: Kit, side: str) -> list[str]:
    """`side`: stunnel's letter for the socket towards the other host."""
    return [
        f"; {kit.mark}",
        "foreground = yes",
        "pid =",
        "syslog = no",
        "debug = notice",
        f"CAfile = {kit.authority}",
        f"cert = {kit.identity}",
        "verifyChain = yes",
        "sslVersionMin = TLSv1.3",
        # Whoever calls shows its certificate every time.
        "sessionResume = no",
        "TIMEOUTclose = 1",
        *(f"socket = {side}:{option}" for option in ("TCP_NODELAY=1", *_PATIENCE)),
    ]


def _program(*words: str) -> str:
    """As socat reads it: in quotes a colon is no separator."""
    return f'EXEC:"{" ".join(words)}"'


def _name(network_id: int, layout: int, caller: str) -> str:
    return f"{caller}.n{network_id}-l{layout}"


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
