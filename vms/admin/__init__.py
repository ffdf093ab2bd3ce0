"""The admin of servers, of what they are made from, and of what guards them."""

from vms.admin import catalogue, firewalls, keys, servers

__all__ = ["catalogue", "firewalls", "keys", "servers"]
