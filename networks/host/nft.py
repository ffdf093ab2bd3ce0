"""The kernel's packet filter: apply a text as one transaction, and see which tables there are."""

from __future__ import annotations

from pyroute2.nftables.main import NFTables

from cloud import shell

_SECONDS = 10.0
_NETDEV = 5  # NFPROTO_NETDEV, linux/netfilter.h


def apply(text: str) -> None:
    """All of `text` or nothing; raises CommandError."""
    shell.run(["nft", "-f", "-"], input=text, timeout=_SECONDS)


def tables() -> set[str]:
    """The names of all tables of the family netdev."""
    with NFTables(nfgen_family=_NETDEV) as netfilter:
        found = netfilter.get_tables()
        return {str(table.get_attr("NFTA_TABLE_NAME")) for table in found}
