"""What runs and is set up on this machine, to compare before and after."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from cloud import shell
from deploy import processes
from deploy.state import Instance

_TEST = "PYTEST_CURRENT_TEST"  # in the environment of whatever a test starts


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


def left_by(instance: Instance, before: Machine, after: Machine) -> list[str]:
    """What the instance left: there now, not there before; empty if the machine is as it was.

    Others may use the machine meanwhile, so a new process, namespace or mount counts if
    something of it leads to the instance or to the running test.
    """
    new = sorted(after.processes - before.processes)
    left = [f"process {pid} {name}" for pid, _, name in new if _leads_to(pid, instance)]
    left += [f"namespace {n}" for n in after.namespaces - before.namespaces if instance.id in n]
    left += [f"mount {m}" for m in after.mounts - before.mounts if instance.id in m]
    left += [f"link {link}" for link in after.links - before.links]
    return left + ([] if before.rules == after.rules else [f"rules {after.rules}"])


def _leads_to(pid: int, instance: Instance) -> bool:
    """Whether environment, working directory or arguments of a process name the instance."""
    try:
        process = psutil.Process(pid)
        environment = process.environ()
        named = [environment.get(processes.MARK, ""), process.cwd(), *process.cmdline()]
    except psutil.NoSuchProcess:
        return False
    of_this_test = environment.get(_TEST) == os.environ[_TEST]
    return of_this_test or any(instance.id in t or str(instance.state) in t for t in named)


def _processes() -> list[tuple[int, float, str]]:
    found = []
    for process in psutil.process_iter():
        try:
            if processes.alive(process) and process.exe():
                found.append((process.pid, process.create_time(), process.name()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _lines(*command: str) -> frozenset[str]:
    return frozenset(shell.run(command, timeout=10).stdout.splitlines())
