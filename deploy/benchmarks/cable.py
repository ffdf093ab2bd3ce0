"""A cable inside TLS for the benchmark: both ends on one machine, as two hosts would have them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloud import shell
from deploy import accounts
from networks.host import cables
from networks.host.cables import STUNNEL, End, Kit
from networks.host.switches import Switch

PORT = 51821
_NETWORK, _NAME = 1, "left.n1-l1"


@dataclass(frozen=True)
class _Identity:
    """A host's certificate with its key; all that is made here are authorities of their own."""

    host: str
    certificate: str
    key: str


@dataclass(frozen=True)
class Programs:
    """Command lines. Those of `accepting` keep running; `calling` needs them at work."""

    accepting: tuple[list[str], ...]
    calling: list[str]


def programs(place: Path, near: Switch, far: Switch) -> Programs:
    """Of both ends. place: the user's own, where their files go."""
    left, right = (_identity(place, host) for host in ("left", "right"))
    authorities = place / "authorities"
    accounts.write_for(authorities, left.certificate + right.certificate, accounts.ROOTLESS)
    called = End(_NAME, _NETWORK, left.host)
    calls = End(_NAME, _NETWORK, right.host, f"127.0.0.1:{PORT}")
    taking, calling = place / "taken.conf", place / "called.conf"
    texts = {
        taking: cables.accepting([called], _kit(place, right)),
        calling: cables.calling(calls, _kit(place, left)),
    }
    for file, text in texts.items():
        accounts.write_for(file, text, accounts.ROOTLESS)
    waiting = cables.listener(cables.plug_words(called, far.place), cables.socket(called, place))
    return Programs(
        accepting=(waiting, [STUNNEL, str(taking)]),
        calling=cables.caller(cables.plug_words(calls, near.place), calling),
    )


def _kit(place: Path, identity: _Identity) -> Kit:
    file = place / f"{identity.host}.identity"
    accounts.write_for(file, identity.certificate + identity.key, accounts.ROOTLESS)
    return Kit(place / "authorities", file, identity.host, place, PORT)


def _identity(place: Path, host: str) -> _Identity:
    key, certificate = place / f"{host}.key", place / f"{host}.pem"
    shell.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", f"/CN={host}"),
            *("-addext", f"subjectAltName=DNS:{host}", "-keyout", key, "-out", certificate),
        ],
        timeout=30,
    )
    return _Identity(host, certificate.read_text(), key.read_text())
