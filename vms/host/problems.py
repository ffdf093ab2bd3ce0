"""What a host lacks, each with the command that mends it: a part of its heartbeat.

A host with privileges says only why it lays no cables.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable

from cloud.errors import CumuletError
from networks.host import slirp, switches
from vms.host import accelerator, cables, user_mode
from vms.host.host import Host
from vms.spec import Problem


def problems(host: Host) -> tuple[Problem, ...]:
    """Nothing of what is said here keeps the host from running what it can."""
    if host.routes_networks:
        return _found(*cables.requirements(host))
    found = _found(
        switches.require,
        *cables.requirements(host),
        slirp.require,
        lambda: user_mode.free_tap(host),
    )
    if accelerator.is_forbidden(host):
        remedy = f"`sudo usermod -aG kvm {_user()}`, then start the host again in a new session"
        found += (Problem("kvm_forbidden", f"{accelerator.FORBIDDEN}: {remedy}"),)
    return found


def _found(*checks: Callable[[], object]) -> tuple[Problem, ...]:
    problems = (_problem(check) for check in checks)
    return tuple(dict.fromkeys(problem for problem in problems if problem))


def _user() -> str:
    """In a container there may be a number without a name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"USER, who has the uid {os.geteuid()}"


def _problem(check: Callable[[], object]) -> Problem | None:
    try:
        check()
    except CumuletError as error:
        return Problem(error.code, error.message)
    return None
