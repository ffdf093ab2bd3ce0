"""The admin of servers and of what they are made from."""

from vms.admin import catalogue, keys, public_ips, servers

__all__ = ["catalogue", "keys", "public_ips", "servers"]
