"""What a host's processes are told when the kernel does not answer about its network."""

from __future__ import annotations

import errno
from typing import NoReturn

import pytest
from pyroute2 import NetlinkError

from networks.host import nics
from networks.host.nics import NetworkRefused, Surroundings


def test_an_uplink_that_goes_while_it_is_looked_at_is_an_error_like_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The monitor, which asks every few seconds, would end by one that it does not know."""

    def vanished() -> NoReturn:
        raise NetlinkError(errno.ENODEV, "No such device")

    monkeypatch.setattr(nics, "IPRoute", vanished)
    with pytest.raises(NetworkRefused):
        nics.uplink_address(Surroundings("uplink"))
