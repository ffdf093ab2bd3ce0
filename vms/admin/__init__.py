"""The admin of servers, of what they are made from, and of what guards them."""

from vms.admin import catalogue, firewalls, keys, networks, public_ips, servers

__all__ = ["catalogue", "firewalls", "keys", "networks", "public_ips", "servers"]
