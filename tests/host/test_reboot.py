"""What a power cut of a lab host ends."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy import processes, reboot, state
from deploy.hosts import LabHost
from deploy.ports import Ports


@pytest.fixture
def instance(tmp_path: Path) -> state.Instance:
    return state.Instance(secrets.token_hex(3), tmp_path, Ports(*range(8)), state.Passwords())


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for process in found:
        process.kill()
        process.wait()


def test_what_the_host_runs_in_namespaces_of_their_own_ends_and_no_other_hosts(
    instance: state.Instance, started: list[subprocess.Popen[bytes]]
) -> None:
    cut, other = LabHost(instance, 1, 10), LabHost(instance, 10, 10)
    for host in (cut, other):
        env = {processes.MARK: instance.id, **host.environment, "PATH": "/usr/bin:/bin"}
        keeper = ["unshare", "--net", "sleep", "600"]
        started.append(subprocess.Popen(keeper, env=env))
    reboot._kill_all(cut)
    assert [psutil.pid_exists(keeper.pid) for keeper in started] == [False, True]
