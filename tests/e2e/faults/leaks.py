"""The leak check: whatever is on the hosts is implied by the inventory, and the other way round.

Everything is asked of the kernel and of the file system, nothing of the product.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import httpx

from cloud import shell
from deploy import broker, processes
from deploy.cloud import Cloud
from deploy.hosts import LabHost
from networks.host.routes import PROTOCOL
from tests.e2e.faults import inventory
from tests.e2e.faults.inventory import Inventory, Server
from vms.host.paths import HostPaths, tap_name

_TAP = re.compile(r"\bcu[0-9a-z]+-\d\b")
_IPV6_HOST = re.compile(r"::1$")
# Of a server that is there; what ends in .new is the draft of a document that a crash left, which
# the next one takes for its own.
_FILES = re.compile(
    r"(spec|state)\.json|disk-0\.qcow2|seed\.(iso|sha256)|qemu\.log|\.[a-z0-9.-]+\.new"
)
# Of servers; those of networks bear numbers as well.
_LOCKS = re.compile(r"[0-9]+\.(vm|documents|kick)")
_SECONDS = 10.0


def leaks(cloud: Cloud) -> list[str]:
    """Every difference, in words; empty if there is none. The cloud must be at rest."""
    wanted = inventory.read(cloud.instance)
    found = [f"not in order: {server}" for server in wanted.servers if not server.in_order]
    found += [f"still open: {action}" for action in wanted.open_actions]
    found += [f"lent to nobody: {address}" for address in wanted.lost_addresses]
    found += [f"queue {name} holds {count}" for name, count in waiting(cloud).items()]
    for host in cloud.hosts:
        assert isinstance(host, LabHost)
        found += [f"{host.name}: {what}" for what in _on_host(cloud, host, wanted)]
    return found + list(_capacity(cloud, wanted))


def _on_host(cloud: Cloud, host: LabHost, wanted: Inventory) -> Iterator[str]:
    servers = wanted.on(host.name)
    running = [server for server in servers if server.runs]
    taps = {tap_name(server.id, index) for server in running for index in server.nics}
    addresses = {_first(address) for server in running for address in server.addresses}
    yield from _differences("QEMU", qemus(host), Counter(server.uuid for server in running))
    for what, seen, implied in (
        ("tap", _taps(cloud, host), taps),
        ("rules of", _named_in_rules(cloud, host), taps),
        ("route to", _routes(cloud, host), addresses),
        ("answer for", _proxies(cloud, host), addresses),
    ):
        yield from _differences(what, Counter(seen), Counter(implied))
    yield from _files(host, servers, running)


def qemus(host: LabHost) -> Counter[str]:
    """How many QEMU there are on the host for each server, by the server's UUID."""
    found: Counter[str] = Counter()
    for process in processes.in_namespace(host.namespace):
        try:
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:  # it ended since it was seen
            continue
        if words[0].startswith("qemu-system") and "-uuid" in words:
            found[words[words.index("-uuid") + 1]] += 1
    return found


def _files(host: LabHost, servers: list[Server], running: list[Server]) -> Iterator[str]:
    paths = HostPaths(host.state, host.run)
    ids, uuids = {str(server.id) for server in servers}, {server.uuid for server in servers}
    alive = {str(server.id) for server in running}
    yield from _differences("files of", Counter(_names(paths.vms)), Counter(ids))
    for directory in paths.vms.iterdir():
        for name in _names(directory):
            if not _FILES.fullmatch(name):
                yield f"file {directory.name}/{name}"
    sockets = {name for name in _names(host.run) if name.isdigit()}
    yield from _differences("sockets of", Counter(sockets), Counter(alive))
    locks = {name.split(".")[0] for name in _names(paths.locks) if _LOCKS.fullmatch(name)}
    yield from (f"lock of {name}" for name in locks - ids)
    yield from (f"unsent report of {name}" for name in _names(paths.unsent))
    yield from (f"download {name}" for name in _names(paths.downloads))
    yield from (f"outlet {name}" for name in _names(paths.outlets))
    buried = {name.removesuffix(".json") for name in _names(paths.tombstones)}
    yield from (f"tombstone of {uuid}, which is there" for uuid in buried & uuids)


def _taps(cloud: Cloud, host: LabHost) -> set[str]:
    return {link["ifname"] for link in _ip(cloud, host, "-d", "link") if _is_tap(link)}


def _is_tap(link: dict[str, Any]) -> bool:
    return bool(_TAP.fullmatch(link["ifname"]))


def _named_in_rules(cloud: Cloud, host: LabHost) -> set[str]:
    text = _inside(cloud, host, "nft", "list", "ruleset")
    return set(_TAP.findall(text))


def _routes(cloud: Cloud, host: LabHost) -> set[str]:
    rows = [
        *_ip(cloud, host, "route", "show", "proto", str(PROTOCOL)),
        *_ip(cloud, host, "-6", "route", "show", "proto", str(PROTOCOL)),
    ]
    return {_first(row["dst"]) for row in rows}


def _proxies(cloud: Cloud, host: LabHost) -> set[str]:
    rows = [
        *_ip(cloud, host, "neigh", "show", "proxy"),
        *_ip(cloud, host, "-6", "neigh", "show", "proxy"),
    ]
    return {row["dst"] for row in rows}


def _first(text: str) -> str:
    """The address by which a host knows what is lent: the first one of a network of IPv6."""
    lent = ip_interface(text)
    if lent.version == 4 or _IPV6_HOST.search(text):
        return str(lent.ip)
    return str(lent.network.network_address + 1)


def waiting(cloud: Cloud) -> dict[str, int]:
    """Messages that wait in queues of work, or that somebody took and did not finish."""
    rows = httpx.get(
        f"{broker.api_url(cloud.instance)}/api/queues/{broker.VHOST}", timeout=_SECONDS
    )
    rows.raise_for_status()
    counts = {row["name"]: row.get("messages", 0) for row in rows.json() if row.get("durable")}
    return {name: count for name, count in counts.items() if count}


def _capacity(cloud: Cloud, wanted: Inventory) -> Iterator[str]:
    token = (cloud.instance.state / "token").read_text().strip()
    answer = httpx.get(
        f"{cloud.instance.api_url}/hosts",
        headers={"Authorization": f"Bearer {token}"},
        timeout=_SECONDS,
    )
    answer.raise_for_status()
    for host in answer.json()["hosts"]:
        claimed, there = host["used"]["servers"], len(wanted.on(host["name"]))
        if claimed != there:
            yield f"{host['name']} has room claimed for {claimed} servers of {there}"
        for leftover in host["leftovers"]:
            yield f"{host['name']} tells of {leftover}"


def _differences(what: str, seen: Counter[str], implied: Counter[str]) -> Iterator[str]:
    yield from (f"{what} {name} too many" for name in (seen - implied).elements())
    yield from (f"{what} {name} missing" for name in (implied - seen).elements())


def _ip(cloud: Cloud, host: LabHost, *arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(_inside(cloud, host, "ip", "-j", *arguments) or "[]")
    return [row for row in rows if row]


def _inside(cloud: Cloud, host: LabHost, *argv: str) -> str:
    return shell.run([*cloud.lab.enter(host.namespace.name), *argv], timeout=_SECONDS).stdout


def _names(directory: Path) -> Iterable[str]:
    return [path.name for path in directory.iterdir()] if directory.exists() else []
