"""The admin of servers, of what they are made from, and of what guards them."""

from vms.admin import catalogue, firewalls, keys, public_ips, servers

__all__ = ["catalogue", "firewalls", "keys", "public_ips", "servers"]
