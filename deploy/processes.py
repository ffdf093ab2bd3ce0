"""Finds and ends the processes of one cloud, and nobody else's.

A process counts as ours by what the kernel says of it (the environment it was started with, the
network namespace it is in), never by a number in a file: numbers are used again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

# Every process of an instance has this variable, inherited from its supervisor.
MARK = "CUMULET_INSTANCE"


def of_instance(instance_id: str) -> list[psutil.Process]:
    """Every process that was started for the instance, guests included; zombies are none."""
    return marked({MARK: instance_id})


def marked(environment: Mapping[str, str]) -> list[psutil.Process]:
    """Every process that was started with all of these variables; zombies are none."""
    marks = {f"{name}={value}".encode() for name, value in environment.items()}
    found = []
    for process in psutil.process_iter():
        try:
            variables = set(Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"))
        except OSError:
            continue
        if marks <= variables and alive(process) and process.pid != os.getpid():
            found.append(process)
    return found


def in_namespace(path: Path) -> list[psutil.Process]:
    """Every process in the network namespace that `path` names."""
    return in_namespaces([path])


def in_namespaces(paths: Iterable[Path]) -> list[psutil.Process]:
    """Every process in one of the network namespaces; one look at the machine for all of them."""
    wanted = {inode for path in paths if (inode := _inode(path)) is not None}
    if not wanted:
        return []
    return [
        process
        for process in psutil.process_iter()
        if _inode(Path(f"/proc/{process.pid}/ns/net")) in wanted and alive(process)
    ]


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end(processes: Iterable[psutil.Process], *, patience: float) -> None:
    """Ask the processes to end, kill those that are still there after `patience` seconds."""
    remaining = [process for process in processes if alive(process)]
    for act in (psutil.Process.terminate, psutil.Process.kill):
        for process in remaining:
            try:
                act(process)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(remaining, timeout=patience)
        remaining = [process for process in remaining if alive(process)]
