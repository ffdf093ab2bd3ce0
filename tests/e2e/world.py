"""A whole cloud as a test sees it: the API from outside, and what is really on the hosts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg2
from hcloud import APIException, Client
from hcloud.actions import BoundAction
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.server_types import ServerType
from hcloud.servers import BoundServer
from hcloud.ssh_keys import BoundSSHKey

from cloud import shell
from deploy import guests, logins, postgres, processes
from deploy.cloud import Cloud
from deploy.hosts import LabHost
from networks.host.bridge_plan import BRIDGE

CREATE_SECONDS = 60.0
_CLOCK = 0.05


def until(condition: Callable[[], object], what: str, *, seconds: float) -> float:
    """Wait until the condition holds; answers after how many seconds it did.

    Questions take at most half of the time, so that what answers them has the other half.
    """
    began = asked = time.monotonic()
    while not condition():
        now = time.monotonic()
        assert now - began < seconds, f"after {now - began:.1f} s still not: {what}"
        time.sleep(max(_CLOCK, now - asked))
        asked = time.monotonic()
    return time.monotonic() - began


@dataclass
class World:
    """`made`: servers that the running test has made; `location`: where, None: control chooses."""

    cloud: Cloud
    api: Client
    key: BoundSSHKey
    made: list[BoundServer] = field(default_factory=list)
    location: str | None = None

    def create(self, name: str, *, wait: bool = True, **order: Any) -> BoundServer:
        """A micro guest, running unless `wait` is False."""
        if self.location:
            order["location"] = Location(name=self.location)
        answer = self.api.servers.create(
            name=name,
            server_type=ServerType(name="nano"),
            image=Image(name="micro"),
            ssh_keys=[self.key],
            **order,
        )
        self.made.append(answer.server)
        if wait:
            answer.action.wait_until_finished(max_retries=int(CREATE_SECONDS * 4))
            self.wait_for_status(answer.server, "running")
        return answer.server

    def create_all(self, *names: str, **order: Any) -> list[BoundServer]:
        """Micro guests that boot at the same time, all running."""
        servers = [self.create(name, wait=False, **order) for name in names]
        for server in servers:
            self.wait_for_status(server, "running", seconds=CREATE_SECONDS)
        return servers

    def status(self, server: BoundServer) -> str:
        """The API's word, `gone` where it knows no such server."""
        try:
            return str(self.api.servers.get_by_id(server.id).status)
        except APIException as error:
            if error.code != "not_found":
                raise
            return "gone"

    def wait_for_status(self, server: BoundServer, status: str, *, seconds: float = 30) -> float:
        return until(
            lambda: self.status(server) == status, f"{server.name} is {status}", seconds=seconds
        )

    def ssh(self, server: BoundServer, command: str) -> shell.Result:
        return guests.ssh(self.cloud.instance, self.way(server), command)

    def wait_for_ssh(self, server: BoundServer) -> str:
        return guests.wait_for_ssh(self.cloud.instance, self.way(server), seconds=60)

    def way(self, server: BoundServer) -> str:
        """What SSH takes: its address, or the port of its host that the API shows."""
        if server.public_net and server.public_net.ipv4:
            return guests.address(server)
        instance = self.cloud.instance
        token = (instance.state / "token").read_text().strip()
        return logins.of_server(instance, token, server.name).uri

    def boot_id(self, server: BoundServer) -> str:
        """What the guest's kernel calls this boot; another one after every boot."""
        self.wait_for_ssh(server)
        return self.ssh(server, "cat /proc/sys/kernel/random/boot_id").stdout.strip()

    def host_of(self, server: BoundServer) -> LabHost:
        """Where the server's files are."""
        found = [
            host for host in self.cloud.hosts if (host.state / "vms" / str(server.id)).exists()
        ]
        assert len(found) == 1, f"{server.name} is on {len(found)} hosts"
        return found[0]

    def row_of(self, host: LabHost) -> dict[str, Any]:
        """The host as the API shows it to operators."""
        token = (self.cloud.instance.state / "token").read_text().strip()
        answer = httpx.get(
            f"{self.cloud.instance.api_url}/hosts",
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )
        rows = answer.raise_for_status().json()["hosts"]
        return next(row for row in rows if row["name"] == host.name)

    def let_the_deadline_pass(self, action: BoundAction) -> None:
        """As if all the time that the Action may take were over."""
        with psycopg2.connect(postgres.url(self.cloud.instance)) as connection:
            connection.cursor().execute(
                "UPDATE cloud_action SET deadline = now() WHERE id = %s AND status = 'running'",
                [action.id],
            )

    def guest_processes(self) -> list[psutil.Process]:
        """Every QEMU of the lab."""
        paths = [self.cloud.lab.path(name) for name in self.cloud.lab.existing()]
        inside = processes.in_namespaces(paths)
        return [process for process in inside if _name(process).startswith("qemu-system")]

    def guests_with(self, mark: str) -> list[psutil.Process]:
        """Those of them that have these characters in their command line."""
        return [process for process in self.guest_processes() if mark in _command_line(process)]

    def links(self, host: LabHost) -> set[str]:
        listing = shell.run(
            [*self.cloud.lab.enter(host.namespace.name), "ip", "-o", "link"], timeout=10
        )
        return {line.split(": ")[1].split("@")[0] for line in listing.stdout.splitlines()}

    def leftovers(self) -> list[str]:
        """What of any server is still on a host: processes, directories, links, switches."""
        left = [f"process {process.pid}" for process in self.guest_processes()]
        for host in self.cloud.hosts:
            left += [f"{path}" for path in _children(host.state / "vms")]
            left += [f"link {name}" for name in self.links(host) - {"lo", "uplink", BRIDGE}]
            left += [f"{path}" for path in _children(host.run / "networks")]
            left += [f"{path}" for path in _children(host.run / "outlets")]
        return left

    def delete_all(self) -> None:
        """Whoever made them: a test may end in the middle of its own requests."""
        servers = self.api.servers.get_all()
        for server in servers:
            try:
                self.api.servers.delete(server)
            except APIException as error:
                if error.code != "not_found":
                    raise
        for server in servers:
            self.wait_for_status(server, "gone")
        self.made.clear()


def _children(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.exists() else []


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:  # it ended since it was seen
        return ""


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
