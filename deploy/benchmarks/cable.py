"""A cable inside TLS for the benchmark: both ends on one machine, as two hosts would have them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cloud import shell
from deploy import accounts
from deploy.benchmarks.errors import BenchmarkFailed
from networks.host import cables
from networks.host.cables import End, Kit
from networks.host.switches import Switch

_NETWORK, _NAME = 1, "left.n1-l1"
_PORT = 51821


@dataclass(frozen=True)
class _Identity:
    """A host's certificate with its key; all that is made here are authorities of their own."""

    host: str
    certificate: str
    key: str


def programs(place: Path, near: Switch, far: Switch) -> list[list[str]]:
    """The command lines of both ends, the one that takes the call first. They keep running.

    place: the user's own, where their files go.
    """
    left, right = (_identity(place, host) for host in ("left", "right"))
    authorities = place / "authorities"
    accounts.write_for(authorities, left.certificate + right.certificate, accounts.ROOTLESS)
    called = End(_NAME, _NETWORK, left.host)
    calls = End(_NAME, _NETWORK, right.host, f"127.0.0.1:{_PORT}")
    texts = {
        "taken": cables.accepting([called], _kit(place, right), {_NETWORK: far.place}),
        "called": cables.calling(calls, _kit(place, left), near.place),
    }
    commands = []
    for name, text in texts.items():
        file = place / f"{name}.conf"
        accounts.write_for(file, text, accounts.ROOTLESS)
        commands.append(["stunnel", str(file)])
    return commands


def _kit(place: Path, identity: _Identity) -> Kit:
    plug = shutil.which("vde_plug")
    if plug is None:
        raise BenchmarkFailed("there is no vde_plug: install the package vde2")
    file = place / f"{identity.host}.identity"
    accounts.write_for(file, identity.certificate + identity.key, accounts.ROOTLESS)
    return Kit(place / "authorities", file, identity.host, Path(plug), _PORT)


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
