"""The monitor's bell: a datagram that says "look at this now". It may be lost, sweeps make up.

Who changes a VM or wants an image rings; only `vms.host.monitor` listens.
"""

from __future__ import annotations

import socket

from vms.host.paths import HostPaths

IMAGES = "images"
# Before the id of a private network.
NETWORK = "network "


def ring(paths: HostPaths, what: int | str = IMAGES) -> None:
    """Tell the monitor to look at a VM (its id), a network or the images; never waits."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as bell:
        try:
            bell.sendto(str(what).encode(), str(paths.bell))
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            return  # nobody listens, or more has been said than was heard yet


def listen(paths: HostPaths) -> socket.socket:
    """The listening end; a socket that an earlier monitor left is replaced."""
    paths.bell.unlink(missing_ok=True)
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    bell.bind(str(paths.bell))
    return bell
