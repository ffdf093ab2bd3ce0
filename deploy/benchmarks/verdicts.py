"""What was promised against what was measured. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.benchmarks.statistics import Summary

# What the design promises: medians against medians of the same run.
PROCESS_AGAINST_LIBVIRT = 0.6
PROCESS_AGAINST_SHELL = 3.0
USERSPACE_AGAINST_SHELL = 1.1
HOST_MEMORY_MIB = 120.0
CONTROL_IDLE_PERCENT = 5.0
# What following every request may cost, against the code that did not.
OVERHEAD = 1.03
RULES_SECONDS = 1.0
THROUGHPUT_KEPT = 0.85
# A private network beside the bare tunnel that it runs in.
PRIVATE_KEPT = 0.9
PRIVATE_ADDED_MS = 0.1
# A large cloud at rest, and while one of its hosts goes mad.
MANY_HOSTS_CORES = 1.0
MANY_HOSTS_STATEMENTS = 200.0
FLOODED_REPORT_SECONDS = 1.0
FLOODED_CREATION_SECONDS = 2.0


@dataclass(frozen=True)
class Verdict:
    """`value` must not exceed `limit`, or must reach it if it is the least that will do."""

    target: str
    value: float
    limit: float
    unit: str = ""
    least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit


@dataclass(frozen=True)
class Timing:
    """One contender's summaries, in seconds."""

    process_up: Summary
    userspace_up: Summary


def speed(cumulet: Timing, shell: Timing, libvirt: Timing) -> list[Verdict]:
    """Ratios of medians."""
    process, userspace = cumulet.process_up.median, cumulet.userspace_up.median
    return [
        Verdict(
            "process up against virsh create",
            process / libvirt.process_up.median,
            PROCESS_AGAINST_LIBVIRT,
            "x",
        ),
        Verdict(
            "process up against the shell loop",
            process / shell.process_up.median,
            PROCESS_AGAINST_SHELL,
            "x",
        ),
        Verdict(
            "userspace up against the shell loop",
            userspace / shell.userspace_up.median,
            USERSPACE_AGAINST_SHELL,
            "x",
        ),
    ]


def overhead(here: Summary, there: Summary) -> Verdict:
    """POST to running server of this revision against that of another one."""
    return Verdict("POST to running", here.median / there.median, OVERHEAD, "x")


def footprint(host_mib: Mapping[str, float], control_percent: Mapping[str, float]) -> list[Verdict]:
    """The largest host counts, and the control plane as a whole."""
    return [
        Verdict("agent and monitor of a host", max(host_mib.values()), HOST_MEMORY_MIB, "MiB"),
        Verdict(
            "idle control plane, of one core",
            sum(control_percent.values()),
            CONTROL_IDLE_PERCENT,
            "%",
        ),
    ]


def network(set_seconds: float, replace_seconds: float, kept: Mapping[str, float]) -> list[Verdict]:
    """`kept`: throughput with rules, as a part of that without, by direction."""
    return [
        Verdict("rules of 500 interfaces, set", set_seconds, RULES_SECONDS, "s"),
        Verdict("rules of 500 interfaces, replaced", replace_seconds, RULES_SECONDS, "s"),
        *(
            Verdict(f"throughput {way}, with rules", part, THROUGHPUT_KEPT, "x", least=True)
            for way, part in kept.items()
        ),
    ]


def private(mtu: int, kept: float, added_ms: float) -> list[Verdict]:
    """`kept`: throughput between guests as a part of the bare tunnel's; uplinks of `mtu` bytes."""
    between = f"between guests, uplinks of {mtu} bytes"
    return [
        Verdict(f"throughput {between}", kept, PRIVATE_KEPT, "x", least=True),
        Verdict(f"latency added {between}", added_ms, PRIVATE_ADDED_MS, "ms"),
    ]


def many_hosts(cores: float, statements: float, report: float, creation: float) -> list[Verdict]:
    """Of worker and beat, statements a second, and seconds that others wait during a flood."""
    return [
        Verdict("processor of worker and beat, large cloud", cores, MANY_HOSTS_CORES, "cores"),
        Verdict("statements a second, large cloud", statements, MANY_HOSTS_STATEMENTS),
        Verdict("a report of another host in a flood", report, FLOODED_REPORT_SECONDS, "s"),
        Verdict("a new server in a flood", creation, FLOODED_CREATION_SECONDS, "s"),
    ]
