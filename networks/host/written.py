"""nftables text → how many rules each chain must have, to compare with what the kernel has. Pure.

Enough to see that somebody took a rule away or flushed a chain, not that one was put in place of
another: reading all rules back would cost more than everything else that is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

# Table and chain; names are of one family each, so that need not be told.
Counts = Mapping[tuple[str, str], int]


def counts(text: str) -> dict[tuple[str, str], int]:
    """Of the chains that the text declares with a body, as all of ours are written."""
    found: dict[tuple[str, str], int] = {}
    table = chain = ""
    for line in map(str.strip, text.splitlines()):
        words = line.split()
        if words[:1] == ["table"] and line.endswith("{"):
            table, chain = words[2], ""
        elif words[:1] == ["chain"] and line.endswith("{"):
            chain = words[1]
            found.setdefault((table, chain), 0)
        elif line == "}":
            chain = ""
        elif chain and line and not line.startswith("type "):
            found[table, chain] += 1
    return found


def flaw(must: Counts, there: Counts) -> str:
    """The first chain that has not as many rules as it must have, in words; "" if there is none."""
    for (table, chain), count in sorted(must.items()):
        has = there.get((table, chain), 0)
        if has != count:
            return f"chain {chain} of {table} has {has} of {count} rules"
    return ""
