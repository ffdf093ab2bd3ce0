"""The admin of pools and of the ledger of their addresses. That of IPs is in `vms.admin`."""

from networks.admin import ledger, pools

__all__ = ["ledger", "pools"]
