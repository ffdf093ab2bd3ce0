"""Contender "cumulet": a server through the API, on one keep-alive connection.

Nothing is asked of the cloud while the clock runs: QEMU is watched from outside, through its
pid file, the accounting of its processor thread, and the console log.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from deploy import guests
from deploy.benchmarks.errors import BenchmarkFailed
from deploy.benchmarks.guest import Sample, wait_for_userspace, wait_until
from deploy.cloud import Cloud
from vms.host.paths import HostPaths, VmPaths

_DELETE_SECONDS = 60.0
_KIND = guests.KINDS[guests.Guest.MICRO]
# The processor thread has run for so long: the machine is built and the guest has begun. On
# this side of QEMU that is the moment at which `-daemonize` returns, to within 2 ms.
_GUEST_BEGAN_NS = 1_000_000


class FirstVm:
    """POST /v1/servers until the guest is up; the server is deleted again, and waited for."""

    name = "cumulet"

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._count = 0
        token = guests.ensure_token(cloud)
        self._api = httpx.Client(
            base_url=cloud.instance.api_url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )

    def get(self, path: str) -> Any:
        return self._checked(self._api.get(path))

    def measure(self) -> Sample:
        self._count += 1
        body = {
            "name": f"bench-{self._count}",
            "server_type": _KIND.server_type,
            "image": _KIND.image,
        }
        self.get("/locations")  # a connection that idled too long is made anew before the clock
        began = time.monotonic()
        answer = self._checked(self._api.post("/servers", json=body))
        answered = time.monotonic() - began
        server = answer["server"]["id"]
        try:
            paths = self._place(server)
            process_up = wait_until(_Began(paths.pid), f"a running {paths.pid}") - began
            userspace_up = wait_for_userspace(paths.console) - began
        finally:
            self._delete(server)
        return Sample(process_up, userspace_up, answered)

    def _place(self, server: int) -> VmPaths:
        """Where the host that was chosen keeps the server; its `run` appears with QEMU."""
        places = [HostPaths(host.state, host.run).vm(server) for host in self._cloud.hosts]
        found: list[VmPaths] = []

        def chosen() -> bool:
            found[:] = [place for place in places if place.run.exists()]
            return bool(found)

        wait_until(chosen, f"QEMU of server {server}")
        return found[0]

    def _delete(self, server: int) -> None:
        self._checked(self._api.delete(f"/servers/{server}"))
        deadline = time.monotonic() + _DELETE_SECONDS
        while self._api.get(f"/servers/{server}").status_code != 404:
            if time.monotonic() > deadline:
                raise BenchmarkFailed(
                    f"server {server} was not deleted within {_DELETE_SECONDS:g} s:"
                    f" see {self._cloud.instance.log}"
                )
            time.sleep(0.1)

    @staticmethod
    def _checked(answer: httpx.Response) -> Any:
        if answer.is_error:
            raise BenchmarkFailed(f"{answer.request.method} {answer.url.path}: {answer.text[:500]}")
        return answer.json()


class _Began:
    """Whether the guest's first processor has begun to run."""

    def __init__(self, pid_file: Path) -> None:
        self._pid_file = pid_file
        self._thread: Path | None = None

    def __call__(self) -> bool:
        with suppress(OSError, ValueError):
            self._thread = self._thread or self._find()
            if self._thread:
                ran = int((self._thread / "schedstat").read_text().split()[0])
                return ran > _GUEST_BEGAN_NS
        return False

    def _find(self) -> Path | None:
        tasks = Path(f"/proc/{int(self._pid_file.read_text())}/task")
        for task in tasks.iterdir():
            if (task / "comm").read_text().startswith("CPU 0/"):
                return task
        return None
