"""nftables as far as it can be left over: tables, chains, and what maps lead to.

Texts are read as `nft -f` reads them, one transaction each; rules inside of chains are not looked
into.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.simulation import actors
from tests.simulation.kernel import Kernel, Table

_FAMILIES = {5: "netdev", 1: "inet"}
_ELEMENT = re.compile(r'"?([^",{}\s]+)"?(?:\s*:\s*(?:jump|goto)\s+(\S+?))?\s*(?:,|$)')


class Refused(Exception):
    """nft ends with an error, and nothing has changed."""


def apply(kernel: Kernel, text: str) -> None:
    """Raises Refused."""
    tables = copy.deepcopy(kernel.tables)
    _Reader(tables, kernel.namespace).read(text)
    kernel.tables = tables


class _Reader:
    def __init__(self, tables: dict[tuple[int, str, str], Table], namespace: int) -> None:
        self._tables = tables
        self._namespace = namespace

    def read(self, text: str) -> None:
        lines = iter(text.splitlines())
        for line in lines:
            words = line.split("#")[0].split()
            if not words:
                continue
            if words[0] == "table":
                self._block(self._table(words[1], words[2]), lines)
            else:
                self._statement(words, line)

    def _block(self, table: Table, lines: Iterator[str]) -> None:
        for line in lines:
            words = line.split()
            if words == ["}"]:
                return
            if not words or words[0] not in ("chain", "set", "map"):
                continue
            body = self._body(lines) if line.count("{") > line.count("}") else []
            if words[0] == "chain":
                table.chains[words[1]] = table.chains.get(words[1], 0) + len(body)
            else:
                table.elements.setdefault(words[1], {})

    def _body(self, lines: Iterator[str]) -> list[str]:
        """The rules of a chain, to its end."""
        found = []
        for line in map(str.strip, lines):
            if line == "}":
                break
            if line and not line.startswith("type "):
                found.append(line)
        return found

    def _statement(self, words: list[str], line: str) -> None:
        verb, kind, family, name = words[:4]
        key = self._namespace, family, name
        match verb, kind:
            case "add", "table":
                self._table(family, name)
            case "delete", "table":
                if self._tables.pop(key, None) is None:
                    raise Refused(line)
            case "flush", "table":
                table = self._existing(key, line)
                table.chains = dict.fromkeys(table.chains, 0)
            case "flush", "chain":
                self._existing(key, line).chains[words[4]] = 0
            case "flush", "set":
                self._existing(key, line)
            case "add", "chain":
                self._existing(key, line).chains.setdefault(words[4], 0)
            case "delete", "chain":
                self._delete_chain(self._existing(key, line), words[4], line)
            case (("add" | "delete"), "element"):
                self._change(self._existing(key, line), verb, words[4], line)
            case _:
                raise Refused(f"not understood: {line}")

    def _table(self, family: str, name: str) -> Table:
        return self._tables.setdefault((self._namespace, family, name), Table())

    def _existing(self, key: tuple[int, str, str], line: str) -> Table:
        if key not in self._tables:
            raise Refused(line)
        return self._tables[key]

    def _delete_chain(self, table: Table, chain: str, line: str) -> None:
        if chain not in table.chains:
            raise Refused(line)
        if any(chain in led.values() for led in table.elements.values()):
            raise Refused(f"in use: {line}")
        del table.chains[chain]

    def _change(self, table: Table, verb: str, name: str, line: str) -> None:
        known = table.elements.setdefault(name, {})
        for key, chain in _ELEMENT.findall(line.partition("{")[2].rpartition("}")[0]):
            if verb == "add":
                if chain and chain not in table.chains:
                    raise Refused(f"no chain {chain}: {line}")
                known[key] = chain
            elif known.pop(key, None) is None:
                raise Refused(line)


@dataclass(frozen=True)
class Netfilter:
    """A socket for questions, in the namespace of the moment."""

    kernel: Kernel
    family: str

    def table(self, name: str) -> Table | None:
        return self.kernel.tables.get((self.kernel.namespace, self.family, name))


@contextmanager
def asking(family: int) -> Iterator[Netfilter]:
    yield Netfilter(actors.machine().kernel, _FAMILIES[family])


def tables() -> set[str]:
    kernel = actors.machine().kernel
    return {
        name
        for namespace, family, name in kernel.tables
        if (namespace, family) == (kernel.namespace, "netdev")
    }


def tables_of(names: Iterable[str], family: int = 5) -> set[str]:
    with asking(family) as netfilter:
        return {name for name in names if netfilter.table(name) is not None}


def chain_exists(netfilter: Netfilter, table: str, chain: str) -> bool:
    found = netfilter.table(table)
    return found is not None and chain in found.chains


def chain_led_to(netfilter: Netfilter, table: str, name: str, key: str) -> str | None:
    found = netfilter.table(table)
    return found.elements.get(name, {}).get(key) if found else None


def rule_counts(netfilter: Netfilter, table: str, chain: str | None = None) -> dict[str, int]:
    found = netfilter.table(table)
    chains = found.chains if found else {}
    return {name: count for name, count in chains.items() if count and chain in (None, name)}


def counters(netfilter: Netfilter, table: str) -> dict[str, int]:
    return {"forged_mac": 0} if netfilter.table(table) is not None else {}


def elements(family: str, table: str) -> dict[str, list[str]]:
    return {}


def jumps(family: str, table: str) -> dict[str, dict[str, str]]:
    found = Netfilter(actors.machine().kernel, family).table(table)
    return found.elements if found else {}
