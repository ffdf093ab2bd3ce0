"""Which host gets a new VM: filter, then score. Pure; `vms.allocation` claims what it chose.

Every host that cannot take the VM gets a reason in words, so "no host has room" answers itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vms.compatibility import FOREIGN
from vms.spec import LEAST_FREE_GB

# Which pools a host can give addresses of, by its own network mode. One in user mode gives those
# that are led to the TAP which root prepared for it.
_PUBLIC_MODES = {
    "routed": frozenset({"routed"}),
    "bridged": frozenset({"routed", "bridged"}),
    "vde": frozenset({"routed"}),
}
_USER_MODE = "vde"
# Reported problems of a host without which it switches no guest: networks and TAP need a switch.
_NO_SWITCH = "vde_missing"


@dataclass(frozen=True)
class Demand:
    """What the VM needs. Memory in MiB, disk in GiB; location None: any.

    `ports`: how many of its host's own ports shall lead to it, by protocol; None: it shall not be
    behind its host's address. With `public_ip` as well, that is where the location has no pool.
    """

    cores: int
    memory_mb: int
    disk_gb: int
    location: str | None = None
    public_ip: bool = False
    ports: Mapping[str, int] | None = None
    private_net: bool = False
    firewalled: bool = False
    limited: bool = False


@dataclass(frozen=True)
class Candidate:
    """A host as placement sees it; `free_*` is what is not promised to a VM yet.

    `pooled`: its location has pools for the VM's project; `pool_modes`: of those that reach the
    host and have what the VM's first address can be; `led_away`: none of them reaches it.
    `free_ports` by protocol: in user mode. `problems` by code. `disk_full`: it sees itself no room
    left, whatever was promised.
    """

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
    pooled: bool = True
    pool_modes: frozenset[str] = frozenset()
    led_away: bool = False
    takes_members: bool = True
    revoked: bool = False
    unverified: bool = False
    free_ports: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    disk_full: bool = False

    @property
    def in_user_mode(self) -> bool:
        return self.network_mode == _USER_MODE


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


def public_modes(network_mode: str) -> frozenset[str]:
    """Modes of the pools that a host of this network mode can give addresses of."""
    return _PUBLIC_MODES.get(network_mode, frozenset())


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
    if candidate.revoked:
        return "is revoked"
    for code in FOREIGN & candidate.problems.keys():
        return f"is not understood: {candidate.problems[code]}"
    if not candidate.speaking:
        return "does not answer"
    if candidate.disk_full:
        return f"has less than {LEAST_FREE_GB} GiB left on its disk: make room there"
    if candidate.unverified:
        return "has not said yet what it has, since the inventory was restored"
    if reason := _unconnected(demand, candidate) or _unguarded(demand, candidate):
        return reason
    if demand.cores > candidate.cores:
        return (
            f"has only {candidate.cores} cores of {demand.cores} needed: choose a smaller server"
            " type"
        )
    short = (
        ("cores", demand.cores, candidate.free_cores),
        ("MiB of memory", demand.memory_mb, candidate.free_memory_mb),
        ("GiB of disk", demand.disk_gb, candidate.free_disk_gb),
    )
    for unit, needed, free in short:
        if needed > free:
            return f"has {max(free, 0)} {unit} free of {needed} needed"
    return None


def _unconnected(demand: Demand, candidate: Candidate) -> str | None:
    """Why the host cannot connect the VM as it needs to be, or None if it can."""
    addressed = demand.public_ip and (candidate.pooled or demand.ports is None)
    if addressed and (reason := _unaddressable(candidate)):
        return reason + (_way_by_ports(candidate) if candidate.in_user_mode else "")
    if not addressed and (reason := _unforwardable(demand, candidate)):
        return reason
    if demand.private_net and not candidate.takes_members:
        lacking = "lays no cables" if candidate.in_user_mode else "makes no tunnels"
        return f"cannot reach private networks: its agent {lacking}"
    if candidate.in_user_mode and (addressed or demand.private_net):
        return candidate.problems.get(_NO_SWITCH)
    return None


def _way_by_ports(candidate: Candidate) -> str:
    """What to ask of a host in user mode instead of the addresses that it cannot give."""
    if candidate.pooled:
        return "; it forwards ports if `public_net.forwarded_ports` asks for them"
    return "; leave out which address it shall have (`--without-ipv6`) to get forwarded ports"


def _unaddressable(candidate: Candidate) -> str | None:
    """Why the host cannot give the VM a public address, or None if it can."""
    able = public_modes(candidate.network_mode)
    if not able:
        return "cannot give public addresses"
    if candidate.in_user_mode and not candidate.pool_modes:
        return "is in user mode, and no TAP that root prepared leads the addresses to it"
    if candidate.led_away:
        return "cannot give the addresses: they are led to the TAP of another host"
    if candidate.pool_modes and not candidate.pool_modes & able:
        pools = " and ".join(sorted(candidate.pool_modes))
        return f"is {candidate.network_mode}, but the addresses for it are {pools}"
    return None


def _unforwardable(demand: Demand, candidate: Candidate) -> str | None:
    """Why the host cannot lead ports of its own to the VM, or None if it can."""
    if demand.ports is None:
        return None
    if not candidate.in_user_mode:
        if demand.public_ip:
            return "has no public address to give: add a pool with `manage.py pool_add`"
        return (
            "gives addresses, no forwarded ports: use a location with hosts in user mode, or leave"
            " `forwarded_ports` out"
        )
    if not candidate.free_ports:
        return " ".join(candidate.problems.values()) or "has no forwarded ports"
    for protocol, needed in demand.ports.items():
        free = max(candidate.free_ports.get(protocol, 0), 0)
        if needed > free:
            return f"has {free} {protocol} ports free of {needed} needed"
    return None


def _unguarded(demand: Demand, candidate: Candidate) -> str | None:
    """Why the host cannot hold the VM's traffic to its rules, or None if it can."""
    if not candidate.in_user_mode:
        return None
    if demand.firewalled:
        return (
            "is in user mode, and enforces no firewalls: leave them out, or choose another location"
        )
    if demand.limited:
        return (
            "is in user mode, and cannot limit traffic as the server type says: choose another type"
            " or location"
        )
    return None
