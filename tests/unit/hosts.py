"""A host with its directories and nothing in them."""

from __future__ import annotations

from pathlib import Path

from cloud.hostconfig import HostConfig
from tests.documents import HOST_UUID
from vms.host.host import Host, _make_directories
from vms.host.paths import HostPaths


def a_host(place: Path) -> Host:
    """An ordinary user's, as it opens its state directory for the first time."""
    paths = HostPaths(place / "state", place / "run")
    _make_directories(paths, None)
    config = HostConfig("h1", "amqp://", paths.state, paths.run)
    return Host(config, paths, HOST_UUID, "boot-1", owner=None)
