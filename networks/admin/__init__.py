"""The admin of the ledger of addresses. That of pools and of IPs is in `vms.admin`."""

from networks.admin import ledger

__all__ = ["ledger"]
