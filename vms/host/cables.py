"""This host's cables to the private networks' switches of other hosts become what documents say.

As the tunnel of `vms.host.networks`: one look at all documents, whichever of them changed. What a
gateway has for them besides, its port in the bridge, is a part of the network itself.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import structlog

from cloud import files
from cloud.errors import CumuletError
from networks.host import cable_service, cables, switches
from networks.host.cable_plugs import Plug, Service
from networks.host.cable_service import ACCEPTING, Wanted
from networks.host.cables import End, Kit
from vms.host import netstore
from vms.host.host import Host

log = structlog.get_logger(__name__)


class NoCertificate(CumuletError):
    """The join bundle is of before hosts had certificates."""

    code: ClassVar[str] = "no_certificate"


def requirements(host: Host) -> tuple[Callable[[], None], ...]:
    """What the host needs to lay cables. Each raises what is missing: NoCertificate,
    StunnelMissing, SocatMissing or VdeMissing.
    """
    return (
        lambda: _require_certificate(host),
        cable_service.require_stunnel,
        cable_service.require_socat,
        switches.require,
    )


def require(host: Host) -> None:
    """Raises the first of what is missing."""
    for check in requirements(host):
        check()


def able(host: Host) -> bool:
    try:
        require(host)
    except CumuletError:
        return False
    return True


def endpoint(host: Host, uplink_ip: str | None) -> str | None:
    """Where other hosts' cables are accepted; None if they cannot be."""
    if uplink_ip is None or host.config.nat or not able(host):
        return None
    return f"{uplink_ip}:{host.config.cable_port}"


def ensure(host: Host) -> None:
    """The cables of all networks, or none without any.

    Raises DamagedStore, CommandError, OSError, CablesFailed and what `require` does.
    """
    with files.locked(host.paths.locks / "cables"):
        ends = _ends(host)
        if ends:
            require(host)
        elif not host.paths.cables.exists():
            return
        texts = _texts(host, ends) if ends else {}
        wanted = Wanted(texts, _calling(host, ends), _accepting(host, ends))
        if cable_service.ensure(_service(host), wanted):
            log.info("cables laid", count=len(ends))
        if not ends:
            shutil.rmtree(host.paths.cables)


def stand(host: Host) -> bool:
    """Whether every cable is being seen to. Raises DamagedStore."""
    if not host.paths.cables.exists():
        return True  # none yet: whoever takes a document lays them, without reading all others
    ends = _ends(host)
    accepting = _accepting(host, ends)
    names = {*_calling(host, ends), *([ACCEPTING] if accepting else [])}
    return cable_service.is_complete(_service(host), names, accepting)


def _require_certificate(host: Host) -> None:
    if host.config.tls is None:
        name = host.config.name
        raise NoCertificate(
            "this host's join bundle has no certificate, so no cable joins its private networks to"
            f" those of other hosts: make a new one with `manage.py host_add {name} --again`"
        )


def _ends(host: Host) -> list[End]:
    return cables.ends(netstore.specs(host.paths), host.config.name)


def _calling(host: Host, ends: list[End]) -> dict[str, Plug]:
    """By stunnel, its plug."""
    return {_name(end): _plug(host, end) for end in ends if end.endpoint}


def _accepting(host: Host, ends: list[End]) -> dict[Path, Plug]:
    """By socket, the plug of whoever is let in there."""
    sockets = host.paths.cable_sockets
    return {cables.socket(end, sockets): _plug(host, end) for end in ends if not end.endpoint}


def _texts(host: Host, ends: list[End]) -> dict[str, str]:
    """By stunnel, its file."""
    kit = _kit(host)
    texts = {_name(end): cables.calling(end, kit) for end in ends if end.endpoint}
    accepted = [end for end in ends if not end.endpoint]
    if accepted:
        texts[ACCEPTING] = cables.accepting(accepted, kit)
    return texts


def _kit(host: Host) -> Kit:
    """Makes the directories, and writes the certificates where stunnel reads them."""
    tls, place = host.config.tls, host.paths.cables
    assert tls is not None, "the caller requires it"
    place.mkdir(mode=0o711, exist_ok=True)
    host.paths.cable_sockets.mkdir(mode=0o700, exist_ok=True)
    host.give(host.paths.cable_sockets, 0o700)
    kit = Kit(
        authority=place / "authority.pem",
        identity=place / "identity.pem",
        mark=hashlib.sha256(f"{tls.authority}{tls.certificate}".encode()).hexdigest()[:16],
        sockets=host.paths.cable_sockets,
        port=host.config.cable_port,
    )
    for path, text in ((kit.authority, tls.authority), (kit.identity, tls.certificate + tls.key)):
        if not path.exists() or path.read_text() != text:
            _write(host, path, text)
    return kit


def _service(host: Host) -> Service:
    return Service(
        place=host.paths.cables,
        sockets=host.paths.cable_sockets,
        become=host.drop_privileges,
        write=lambda path, text: _write(host, path, text),
        log=host.paths.cable_log,
    )


def _write(host: Host, path: Path, text: str) -> None:
    """Readable by the user that stunnel runs as, who cannot change it where that is another one."""
    if host.owner:
        files.write(path, text.encode(), mode=0o440, owner=(0, host.owner.gid))
    else:
        files.write(path, text.encode())


def _plug(host: Host, end: End) -> Plug:
    return cables.plug_words(end, host.paths.switch(end.network_id))


def _name(end: End) -> str:
    return f"calling-{end.network_id}"
