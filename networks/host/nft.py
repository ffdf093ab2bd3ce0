"""The kernel's packet filter: apply a text as one transaction, and see what there is.

Mostly asked one by one by netlink: `nft` itself reads everything that the host has before it
answers.
"""

from __future__ import annotations

import errno
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

from pyroute2 import NetlinkError
from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, nla
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_GETCHAIN,
    NFT_MSG_GETOBJ,
    NFT_MSG_GETRULE,
    NFT_MSG_GETSETELEM,
    NFT_MSG_GETTABLE,
    NFT_MSG_NEWOBJ,
    nft_chain_msg,
    nft_rule_msg,
    nft_set_elem_list_msg,
    nft_table_msg,
)
from pyroute2.nftables.main import NFTables

from cloud import shell

NETDEV, INET = 5, 1  # NFPROTO_*, linux/netfilter.h
_SECONDS = 10.0
_COUNTER = 1  # NFT_OBJECT_COUNTER, linux/netfilter/nf_tables.h


class _Object(nfgen_msg):  # type: ignore[misc]
    """A stateful object of a table (enum nft_object_attributes), which pyroute2 lacks."""

    prefix = "NFTA_OBJ_"
    nla_map = (
        ("NFTA_OBJ_UNSPEC", "none"),
        ("NFTA_OBJ_TABLE", "asciiz"),
        ("NFTA_OBJ_NAME", "asciiz"),
        ("NFTA_OBJ_TYPE", "be32"),
        ("NFTA_OBJ_DATA", "counter"),
    )

    class counter(nla):  # type: ignore[misc]  # noqa: N801 - pyroute2 finds it by this name
        nla_map = (
            ("NFTA_COUNTER_UNSPEC", "none"),
            ("NFTA_COUNTER_BYTES", "be64"),
            ("NFTA_COUNTER_PACKETS", "be64"),
        )


def apply(text: str) -> None:
    """All of `text` or nothing; raises CommandError."""
    shell.run(["nft", "-f", "-"], input=text, timeout=_SECONDS)


def tables() -> set[str]:
    """The names of all tables of the family netdev."""
    with NFTables(nfgen_family=NETDEV) as netfilter:
        return {str(table.get_attr("NFTA_TABLE_NAME")) for table in netfilter.get_tables()}


def tables_of(names: Iterable[str], family: int = NETDEV) -> set[str]:
    """Those of these tables that there are."""
    with NFTables(nfgen_family=family) as netfilter:
        return {
            name
            for name in names
            if _exists(netfilter, nft_table_msg(), NFT_MSG_GETTABLE, NFTA_TABLE_NAME=name)
        }


@contextmanager
def asking(family: int) -> Iterator[Any]:
    """A socket for the questions below."""
    with NFTables(nfgen_family=family) as netfilter:
        objects = {NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWOBJ: _Object}
        netfilter.asyncore.register_policy(objects)
        yield netfilter


def chain_exists(netfilter: Any, table: str, chain: str) -> bool:
    wanted = {"NFTA_CHAIN_TABLE": table, "NFTA_CHAIN_NAME": chain}
    return _exists(netfilter, nft_chain_msg(), NFT_MSG_GETCHAIN, **wanted)


def rule_counts(netfilter: Any, table: str, chain: str | None = None) -> dict[str, int]:
    """By chain, how many rules a table has, or one `chain` of it; none of those that have none."""
    request = nft_rule_msg()
    request["attrs"] = [("NFTA_RULE_TABLE", table)]
    if chain:
        request["attrs"].append(("NFTA_RULE_CHAIN", chain))
    found: Counter[str] = Counter()
    for rule in netfilter.request_get(request, NFT_MSG_GETRULE, NLM_F_REQUEST | NLM_F_DUMP):
        found[str(rule.get_attr("NFTA_RULE_CHAIN"))] += 1
    return dict(found)


def chain_led_to(netfilter: Any, table: str, name: str, key: str) -> str | None:
    """Where a verdict map leads a MAC or an IP address; None if it leads it nowhere."""
    value = {"attrs": [("NFTA_DATA_VALUE", _packed(key))]}
    request = nft_set_elem_list_msg()
    request["attrs"] = [
        ("NFTA_SET_ELEM_LIST_TABLE", table),
        ("NFTA_SET_ELEM_LIST_SET", name),
        ("NFTA_SET_ELEM_LIST_ELEMENTS", [{"attrs": [("NFTA_SET_ELEM_KEY", value)]}]),
    ]
    try:
        (answer,) = netfilter.request_get(request, NFT_MSG_GETSETELEM, NLM_F_REQUEST)
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise
        return None
    (element,) = answer.get_attr("NFTA_SET_ELEM_LIST_ELEMENTS")
    verdict = element.get_nested("NFTA_SET_ELEM_DATA", "NFTA_DATA_VERDICT")
    return str(verdict.get_attr("NFTA_VERDICT_CHAIN"))


def counters(netfilter: Any, table: str) -> dict[str, int]:
    """The packets that the counters of a table have seen; empty if there is no such table."""
    request = _Object()
    request["attrs"] = [("NFTA_OBJ_TABLE", table), ("NFTA_OBJ_TYPE", _COUNTER)]
    return {
        found.get_attr("NFTA_OBJ_NAME"): found.get_attr("NFTA_OBJ_DATA").get_attr(
            "NFTA_COUNTER_PACKETS"
        )
        for found in netfilter.request_get(request, NFT_MSG_GETOBJ)
    }


def elements(family: str, table: str) -> dict[str, list[str]]:
    """What the sets of a table hold, by name, the newest first; raises CommandError.

    Of what expires, that which has the longest to live is the newest.
    """
    return {
        one["name"]: [
            str(element["val"])
            for element in sorted(
                (member["elem"] for member in one.get("elem", []) if "elem" in member),
                key=lambda element: -element["expires"],
            )
        ]
        for one in _listed(family, table, "set")
    }


def jumps(family: str, table: str) -> dict[str, dict[str, str]]:
    """By map and key, the chains that the verdict maps of a table lead to; raises CommandError."""
    return {
        one["name"]: {
            key: str((verdict.get("jump") or verdict["goto"])["target"])
            for key, verdict in one.get("elem", [])
        }
        for one in _listed(family, table, "map")
    }


def _listed(family: str, table: str, kind: str) -> list[Any]:
    text = shell.run(["nft", "-j", "list", "table", family, table], timeout=_SECONDS).stdout
    return [entry[kind] for entry in json.loads(text)["nftables"] if kind in entry]


def _packed(key: str) -> bytes:
    try:
        return ip_address(key).packed
    except ValueError:
        return bytes.fromhex(key.replace(":", ""))


def _exists(netfilter: Any, request: Any, kind: int, **wanted: str) -> bool:
    request["attrs"] = list(wanted.items())
    try:
        return bool(netfilter.request_get(request, kind, NLM_F_REQUEST))
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise
        return False
