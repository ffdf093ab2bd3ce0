"""The kernel's packet filter: apply a text as one transaction, and see which tables there are."""

from __future__ import annotations

import json

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


def elements(family: str, table: str) -> dict[str, list[str]]:
    """What the sets of a table hold, by name, the newest first; raises CommandError.

    Of what expires, that which has the longest to live is the newest.
    """
    listed = shell.run(["nft", "-j", "list", "table", family, table], timeout=_SECONDS).stdout
    sets = [entry["set"] for entry in json.loads(listed)["nftables"] if "set" in entry]
    return {
        entry["name"]: [
            str(one["val"])
            for one in sorted(
                (element["elem"] for element in entry.get("elem", []) if "elem" in element),
                key=lambda one: -one["expires"],
            )
        ]
        for entry in sets
    }
