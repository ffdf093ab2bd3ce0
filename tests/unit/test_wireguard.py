"""The key pair of a host's tunnel, and what is said where no tunnel can be made."""

from __future__ import annotations

import errno
import itertools
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import NetlinkError

from cloud import files, shell
from cloud.hostconfig import HostConfig
from networks.host import wireguard
from networks.host.wireguard import Place, WireguardMissing
from tests.documents import HOST_UUID
from vms.host import networks
from vms.host.host import Host
from vms.host.paths import HostPaths


@pytest.fixture(autouse=True)
def wg(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count(1)

    def run(argv: list[str], *, input: str = "", **_: Any) -> shell.Result:
        said = f"private {next(numbers)}" if argv == ["wg", "genkey"] else f"public of {input}"
        return shell.Result(tuple(argv), 0, said, "")

    monkeypatch.setattr(shell, "run", run)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place("cw0", HOST_UUID, tmp_path / "tunnel.key", tmp_path / "tunnel.log")


def test_a_key_that_was_removed_is_replaced_by_another_one(place: Place) -> None:
    assert wireguard.ensure_key(place) == wireguard.ensure_key(place) == "public of private 1"
    place.key.unlink()
    assert wireguard.ensure_key(place) == wireguard.ensure_key(place) == "public of private 2"


def test_a_missing_program_is_named_at_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel:
        """Without WireGuard."""

        def link(self, *_: Any, **__: Any) -> None:
            raise NetlinkError(errno.EOPNOTSUPP)

    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(WireguardMissing, match="wireguard-go is not installed"):
        wireguard._start(Kernel(), place)


def test_a_tunnel_that_does_not_come_up_keeps_nobody_from_telling_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = HostPaths(tmp_path / "state", tmp_path / "run")
    for directory in (paths.state, paths.locks):
        directory.mkdir(parents=True)
    config = HostConfig("h1", "amqp://", paths.state, paths.run)
    host = Host(config, paths, HOST_UUID, "boot-1", owner=None)
    monkeypatch.setattr(Host, "routes_networks", True)
    told: list[str | None] = []
    with files.locked(paths.locks / "tunnel"):
        telling = threading.Thread(target=lambda: told.append(networks.tunnel_key(host)))
        telling.start()
        telling.join(2)
        assert told == ["public of private 1"]
    telling.join()
