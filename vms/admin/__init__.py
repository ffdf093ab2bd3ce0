"""The admin of servers, of what they are made from, and of what guards them."""

from vms.admin import catalogue, drift, firewalls, keys, networks, public_ips, servers

__all__ = ["catalogue", "drift", "firewalls", "keys", "networks", "public_ips", "servers"]
