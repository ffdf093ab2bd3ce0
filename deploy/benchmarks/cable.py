"""A VDE cable inside TLS for the benchmark: both ends on one machine, each with an identity."""

from __future__ import annotations

from pathlib import Path

from cloud import shell
from cloud.hostconfig import TlsIdentity
from networks.host.switches import Switch

_PORT = 51821


def programs(place: Path, near: Switch, far: Switch) -> list[list[str]]:
    left, right = identities(place, "left", "right")
    for name, identity in (("left", left), ("right", right)):
        (place / f"{name}.id").write_text(identity.certificate + identity.key)
        (place / f"{name}.ca").write_text(identity.authority)
    common = "foreground=yes\npid=\nsyslog=no\nsocket=l:TCP_NODELAY=1\nsocket=r:TCP_NODELAY=1\n"
    (place / "right.conf").write_text(
        common
        + f"""
[cables]
accept=127.0.0.1:{_PORT}
cert={place}/right.id
CAfile={place}/right.ca
verifyChain=yes
exec=/usr/bin/vde_plug
execArgs=vde_plug vde://{far.place}
"""
    )
    (place / "left.conf").write_text(
        common
        + f"""
[cable]
client=yes
connect=127.0.0.1:{_PORT}
cert={place}/left.id
CAfile={place}/left.ca
verifyChain=yes
checkHost=right
retry=yes
exec=/usr/bin/vde_plug
execArgs=vde_plug vde://{near.place}
"""
    )
    for path in place.glob("*.*"):
        path.chmod(0o644)
    return [["stunnel", str(place / "right.conf")], ["stunnel", str(place / "left.conf")]]


def identities(place: Path, *names: str) -> list[TlsIdentity]:
    """Self-signed, each an authority of its own."""
    made = []
    for name in names:
        key, certificate = place / f"{name}.key", place / f"{name}.pem"
        shell.run(
            [
                *("openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"),
                *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", f"/CN={name}"),
                *("-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", certificate),
            ],
            timeout=30,
        )
        made.append((certificate.read_text(), key.read_text()))
    authority = "".join(certificate for certificate, _ in made)
    return [TlsIdentity(authority, certificate, key) for certificate, key in made]
