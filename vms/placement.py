"""Which host gets a new VM: filter, then score. Pure; `vms.allocation` claims what it chose.

Every host that cannot take the VM gets a reason in words, so "no host has room" answers itself.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Demand:
    """What the VM needs. Memory in MiB, disk in GiB; location None: any."""

    cores: int
    memory_mb: int
    disk_gb: int
    location: str | None = None
    public_ip: bool = False


@dataclass(frozen=True)
class Candidate:
    """A host as placement sees it; `free_*` is what is not promised to a VM yet."""

    host_id: int
    name: str
    location: str
    schedulable: bool
    speaking: bool
    network_mode: str
    cores: int
    free_cores: int
    free_memory_mb: int
    free_disk_gb: int
    vm_count: int
    has_image: bool


@dataclass(frozen=True)
class Placement:
    """Hosts that can take the VM, best first, and why the others cannot."""

    ranked: tuple[Candidate, ...]
    rejected: dict[str, str]

    def explain(self) -> str:
        """Why no host was found, one clause for each."""
        if not self.rejected:
            return "no host has joined yet: add one with `manage.py host_add`"
        return "; ".join(f"{name}: {reason}" for name, reason in sorted(self.rejected.items()))

    def passed_over(self, name: str) -> dict[str, str]:
        """Why each host but the chosen one, `name`, does not have the VM."""
        chosen = next(host for host in self.ranked if host.name == name)
        others = {h.name: _less_suitable(h, chosen) for h in self.ranked if h.name != name}
        return self.rejected | others


def place(demand: Demand, candidates: list[Candidate]) -> Placement:
    """Rank the candidates: those that hold the image first, then the emptiest."""
    reasons = {candidate.name: rejection(demand, candidate) for candidate in candidates}
    fitting = [candidate for candidate in candidates if reasons[candidate.name] is None]
    fitting.sort(key=lambda c: (not c.has_image, -c.free_memory_mb, c.vm_count, c.name))
    rejected = {name: reason for name, reason in reasons.items() if reason}
    return Placement(tuple(fitting), rejected)


def _less_suitable(other: Candidate, chosen: Candidate) -> str:
    """In which point of the ranking it comes after the chosen host."""
    if chosen.has_image and not other.has_image:
        return f"fits, but has not fetched the image yet, as {chosen.name} has"
    if other.free_memory_mb < chosen.free_memory_mb:
        return (
            f"fits, but has {other.free_memory_mb} MiB of memory free,"
            f" {chosen.name} {chosen.free_memory_mb}"
        )
    if other.vm_count > chosen.vm_count:
        return f"fits, but has {other.vm_count} servers, {chosen.name} {chosen.vm_count}"
    return f"fits as well as {chosen.name}"


def rejection(demand: Demand, candidate: Candidate) -> str | None:
    """Why the host cannot take the VM, or None if it can."""
    if demand.location and candidate.location != demand.location:
        return f"is in location {candidate.location}"
    if not candidate.schedulable:
        return "is closed for new servers"
    if not candidate.speaking:
        return "does not answer"
    if demand.public_ip and candidate.network_mode not in ("routed", "bridged"):
        return "cannot give public addresses"
    if demand.cores > candidate.cores:
        return f"has only {candidate.cores} cores of {demand.cores} needed"
    short = (
        ("cores", demand.cores, candidate.free_cores),
        ("MiB of memory", demand.memory_mb, candidate.free_memory_mb),
        ("GiB of disk", demand.disk_gb, candidate.free_disk_gb),
    )
    for unit, needed, free in short:
        if needed > free:
            return f"has {max(free, 0)} {unit} free of {needed} needed"
    return None
