"""What runs and is set up on this machine, to compare before and after."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from cloud import shell
from deploy import processes


@dataclass(frozen=True)
class Machine:
    """Processes are told apart by number and start time; zombies are not processes."""

    processes: frozenset[tuple[int, float, str]]
    namespaces: frozenset[str]
    links: frozenset[str]
    rules: str
    mounts: frozenset[str]

    @classmethod
    def now(cls) -> Machine:
        return cls(
            processes=frozenset(_processes()),
            namespaces=_lines("ip", "netns", "list"),
            links=_lines("ip", "-o", "-brief", "link"),
            rules=shell.run(["nft", "list", "ruleset"], timeout=10).stdout,
            mounts=frozenset(Path("/proc/self/mountinfo").read_text().splitlines()),
        )


def left_by(instance_id: str, before: Machine, after: Machine) -> list[str]:
    """What is there now and was not before; empty if the machine is as it was.

    Processes that somebody else on this machine started meanwhile do not count: those with a
    living parent that was there before, and those that another cloud marks as its own.
    """
    known = {pid for pid, _, _ in before.processes}
    left = [
        f"process {pid} {name}"
        for pid, _, name in sorted(after.processes - before.processes)
        if not _belongs_to_others(pid, instance_id, known)
    ]
    left += [f"namespace {n}" for n in after.namespaces - before.namespaces if instance_id in n]
    left += [f"link {link}" for link in after.links - before.links]
    left += [
        f"mount {m}" for m in after.mounts - before.mounts if "cu-" not in m or instance_id in m
    ]
    return left + ([] if before.rules == after.rules else [f"rules {after.rules}"])


def _processes() -> list[tuple[int, float, str]]:
    found = []
    for process in psutil.process_iter():
        try:
            if processes.alive(process) and process.exe():
                found.append((process.pid, process.create_time(), process.name()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _belongs_to_others(pid: int, instance_id: str, known: set[int]) -> bool:
    try:
        process = psutil.Process(pid)
        mark = process.environ().get(processes.MARK)
        parents = {parent.pid for parent in process.parents()} - {1}
    except psutil.NoSuchProcess:
        return True
    if mark is not None:
        return mark != instance_id
    return bool(parents & (known - {os.getpid()})) and os.getpid() not in parents


def _lines(*command: str) -> frozenset[str]:
    return frozenset(shell.run(command, timeout=10).stdout.splitlines())
