"""This host's cables to the private networks' switches of other hosts become what documents say.

As the tunnel of `vms.host.networks`: one look at all documents, whichever of them changed. What a
gateway has for them besides, its port in the bridge, is a part of the network itself.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import ClassVar

import structlog

from cloud.errors import CumuletError
from networks.host import cable_service, cables, switches
from networks.host.cable_service import ACCEPTING, PLUG, Service
from networks.host.cables import End, Kit
from vms.host import files, netstore, trim
from vms.host.host import Host

log = structlog.get_logger(__name__)


class NoCertificate(CumuletError):
    """The join bundle is of before hosts had certificates."""

    code: ClassVar[str] = "no_certificate"


def require(host: Host) -> None:
    """Whether the host can lay cables. Raises NoCertificate, StunnelMissing or VdeMissing."""
    if host.config.tls is None:
        name = host.config.name
        raise NoCertificate(
            "this host's join bundle has no certificate, so its private networks reach no other"
            f" host: make a new one with `manage.py host_add {name} --again`"
        )
    cable_service.require()
    switches.require()


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

    Raises DamagedStore, NoCertificate, StunnelMissing, CablesFailed, CommandError or OSError.
    """
    with files.locked(host.paths.locks / "cables"):
        wanted = _ends(host)
        if wanted:
            require(host)
        elif not host.paths.cables.exists():
            return
        texts = _texts(host, wanted) if wanted else {}
        plugs = [cables.plug_words(end, _switch(host, end)) for end in wanted]
        if cable_service.ensure(_service(host), texts, plugs):
            log.info("cables laid", count=len(wanted))
        if not wanted:
            shutil.rmtree(host.paths.cables)


def stand(host: Host) -> bool:
    """Whether every cable is being seen to. Raises DamagedStore."""
    if not host.paths.cables.exists() and not _ends(host):
        return True
    names = {ACCEPTING if end.endpoint is None else _name(end) for end in _ends(host)}
    for name in names:
        trim.trim(host.paths.cable_log(name))
    return cable_service.is_complete(_service(host), names)


def _ends(host: Host) -> list[End]:
    return cables.ends(netstore.specs(host.paths), host.config.name)


def _texts(host: Host, wanted: list[End]) -> dict[str, str]:
    """By stunnel, its file."""
    kit = _kit(host)
    texts = {
        _name(end): cables.calling(end, kit, _switch(host, end)) for end in wanted if end.endpoint
    }
    accepted = [end for end in wanted if not end.endpoint]
    if accepted:
        places = {end.network_id: _switch(host, end) for end in accepted}
        texts[ACCEPTING] = cables.accepting(accepted, kit, places)
    return texts


def _kit(host: Host) -> Kit:
    """Writes the certificates where stunnel reads them."""
    tls, place = host.config.tls, host.paths.cables
    assert tls is not None, "the caller requires it"
    place.mkdir(mode=0o711, exist_ok=True)
    kit = Kit(
        authority=place / "authority.pem",
        identity=place / "identity.pem",
        mark=hashlib.sha256(f"{tls.authority}{tls.certificate}".encode()).hexdigest()[:16],
        plug=Path(shutil.which(PLUG) or PLUG),
        port=host.config.cable_port,
    )
    for path, text in ((kit.authority, tls.authority), (kit.identity, tls.certificate + tls.key)):
        if not path.exists() or path.read_text() != text:
            _write(host, path, text)
    return kit


def _service(host: Host) -> Service:
    return Service(
        place=host.paths.cables,
        become=host.drop_privileges,
        write=lambda path, text: _write(host, path, text),
        log=host.paths.cable_log,
    )


def _write(host: Host, path: Path, text: str) -> None:
    """Readable by the user that stunnel runs as, who cannot change it where that is another one."""
    files.write(path, text.encode(), mode=0o440 if host.owner else 0o600)
    if host.owner:
        os.chown(path, 0, host.owner.gid)


def _switch(host: Host, end: End) -> Path:
    return host.paths.switch(end.network_id)


def _name(end: End) -> str:
    return f"calling-{end.network_id}"
