"""The documents of all private networks → this host's ends of cables, and stunnel's words. Pure.

A cable joins the switches of two hosts: TLS between two stunnels, each with a `vde_plug` in its
network's switch. Both ends know it by one name, made of the network, the layout and the host that
calls, and sent as SNI: ends of two layouts do not match. Each end takes only a certificate of the
cloud's authority for the one host that the document names.

All accepted ends are in one stunnel, which reads its file again when they change. Each end that
calls has its own, because a stunnel that reads its file again calls once more beside the call that
there is, and two cables between two switches are a loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from networks.spec import NetworkSpec

# A peer that is gone without a word is known to be so after 25 seconds.
_PATIENCE = ("SO_KEEPALIVE=1", "TCP_KEEPIDLE=10", "TCP_KEEPINTVL=5", "TCP_KEEPCNT=3")
_LOOKUP = "cables"
# No host is called so: a call for no cable that we know ends here.
_NOBODY = "nobody.invalid"


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
    mark: changes with them; plug: the program `vde_plug`; port: where cables are accepted.
    """

    authority: Path
    identity: Path
    mark: str
    plug: Path
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


def accepting(accepted: Iterable[End], kit: Kit, switches: dict[int, Path]) -> str:
    """The file of the stunnel that takes calls. `switches`: by network, where to plug in."""
    lines = [
        *_common(kit, "l"),
        f"[{_LOOKUP}]",
        f"accept = 0.0.0.0:{kit.port}",
        f"checkHost = {_NOBODY}",
        "exec = /bin/false",
    ]
    for end in accepted:
        lines += [
            f"[{end.name}]",
            f"sni = {_LOOKUP}:{end.name}",
            *_plugged(end, kit, switches[end.network_id]),
        ]
    return _text(lines)


def calling(end: End, kit: Kit, switch: Path) -> str:
    """The file of the stunnel that calls for one cable, again and again."""
    lines = [
        *_common(kit, "r"),
        f"[{end.name}]",
        "client = yes",
        f"connect = {end.endpoint}",
        f"sni = {end.name}",
        "retry = yes",
        *_plugged(end, kit, switch),
    ]
    return _text(lines)


def plug_words(end: End, switch: Path) -> list[str]:
    """The arguments of the `vde_plug` at this end, by which it is known among processes."""
    return ["-D", end.name, f"vde://{switch}"]


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


def _plugged(end: End, kit: Kit, switch: Path) -> list[str]:
    words = " ".join([kit.plug.name, *plug_words(end, switch)])
    return [f"checkHost = {end.peer}", f"exec = {kit.plug}", f"execArgs = {words}"]


def _name(network_id: int, layout: int, caller: str) -> str:
    return f"{caller}.n{network_id}-l{layout}"


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
