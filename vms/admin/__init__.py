"""The admin of servers, of what they are made from, and of what guards them."""

from vms.admin import (
    catalogue,
    dead_letters,
    drift,
    firewalls,
    keys,
    networks,
    pools,
    public_ips,
    servers,
)

__all__ = [
    "catalogue",
    "dead_letters",
    "drift",
    "firewalls",
    "keys",
    "networks",
    "pools",
    "public_ips",
    "servers",
]
