"""Settings of networks that cannot be: told when control starts, by Django's system checks."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any, Final

from django.conf import settings
from django.core.checks import Error, register

from networks.private.mtu import private_mtu

# Every IPv6 link takes this (RFC 8200), so smaller ones confuse guests.
_LEAST_MTU: Final = 1280


@register
def check_mesh(**_: Any) -> list[Error]:
    """Whether hosts can have addresses of their own in the mesh, and guests frames to send."""
    try:
        tunnels = IPv4Network(settings.TUNNEL_RANGE)
    except ValueError as error:
        return [Error(f"CUMULET_TUNNEL_RANGE is no IPv4 network: {error}", id="networks.E001")]
    problems = [
        Error(
            f"CUMULET_TUNNEL_RANGE {tunnels} overlaps the fabric {fabric}",
            hint="Choose a range that is used for nothing else.",
            id="networks.E002",
        )
        for fabric in settings.FABRIC
        if fabric.version == tunnels.version and fabric.overlaps(tunnels)
    ]
    if settings.FABRIC_MTU and private_mtu(settings.FABRIC_MTU) < _LEAST_MTU:
        problems.append(
            Error(
                f"CUMULET_FABRIC_MTU {settings.FABRIC_MTU} leaves guests less than {_LEAST_MTU}",
                id="networks.E003",
            )
        )
    return problems
