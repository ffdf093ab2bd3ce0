"""`deploy/up` with new code over a running cloud: all of it is new then, and no guest noticed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg2
import pytest

from cloud import shell
from cloud.version import VERSION
from deploy import guests, logins, postgres, processes, state
from deploy.benchmarks.fault_records import Fault
from deploy.lab import Lab
from deploy.state import Instance
from deploy.supervise import Supervisor
from tests import records
from tests.e2e.conversation import ECHO, PORT, talking
from tests.e2e.machine import Machine, left_by
from tests.e2e.person import NOT_CLONED, Person
from tests.e2e.test_deploy import Checkout
from tests.e2e.world import until

pytestmark = pytest.mark.faults

NEW = "0.1.1.test"
NOTHING = "0999_nothing"
CONTROL = ("web", "control", "beat")
# TCP mends what is lost while rules are replaced; nobody may wait longer than a person notices.
LONGEST_GAP = 5.0
MIGRATION = """
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("cloud", "{last}")]
    operations = []
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A copy of this one, which can be edited."""
    code = tmp_path / "cumulet"
    shutil.copytree(state.CHECKOUT, code, ignore=NOT_CLONED)
    made = Checkout(tmp_path / "state", code)
    yield made
    if made.state.exists():
        made.deploy("down", "--purge")


def renew(code: Path) -> None:
    """What a next release brings: a version, other helpers, a migration."""
    version = code / "cloud/version.py"
    version.write_text(version.read_text().replace(VERSION, NEW))
    for helper in ("outside.py", "slirp.py"):
        with (code / "networks/host" / helper).open("a") as file:
            file.write("\n# Of another release.\n")
    migrations = code / "cloud/migrations"
    last = max(path.stem for path in migrations.glob("0*.py"))
    (migrations / f"{NOTHING}.py").write_text(MIGRATION.format(last=last))


def order(name: str, location: str, **more: Any) -> dict[str, Any]:
    """A micro guest that echoes."""
    server = {"name": name, "server_type": "nano", "image": "micro", "ssh_keys": ["cumulet"]}
    return {**server, "location": location, "user_data": ECHO, **more}


def behind_its_host(*ports: int) -> dict[str, Any]:
    forwards = [{"protocol": "tcp", "guest_port": port} for port in ports]
    return {"public_net": {"forwarded_ports": forwards}}


def guest_processes(instance: Instance) -> dict[int, float]:
    """Every QEMU and what connects it, by pid, with its start time."""
    found = {}
    for process in processes.of_instance(instance.id):
        words = " ".join(process.cmdline())
        if any(word in words for word in ("qemu-system", "vde_switch", "networks.host.outside")):
            found[process.pid] = process.create_time()
    return found


def own_programs(instance: Instance) -> dict[str, int]:
    supervisor = Supervisor(instance)
    states = supervisor.states()
    return {name: supervisor.pid(name) for name in states if is_ours(name)}


def is_ours(name: str) -> bool:
    return name in CONTROL or name.startswith(("agent-", "monitor-"))


def agent_versions(instance: Instance, token: str) -> set[str]:
    answer = httpx.get(
        f"{instance.api_url}/hosts", headers={"Authorization": f"Bearer {token}"}, timeout=10
    )
    return {host["agent_version"] for host in answer.raise_for_status().json()["hosts"]}


def documented_version(instance: Instance) -> str:
    schema = httpx.get(f"{instance.api_url}/schema?format=json", timeout=30)
    return str(schema.raise_for_status().json()["info"]["version"])


def around_the_migration(instance: Instance) -> tuple[datetime, datetime, datetime]:
    """When the old worker ended, when the schema changed, when the new worker began."""
    with psycopg2.connect(postgres.url(instance)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT applied FROM django_migrations WHERE name = %s", [NOTHING])
        ((migrated,),) = cursor.fetchall()
    lines = (instance.log / "supervisord.log").read_text().splitlines()
    ended = max(at(line) for line in lines if "stopped: control " in line)
    began = max(at(line) for line in lines if "spawned: 'control' " in line)
    return ended, migrated, began


def at(line: str) -> datetime:
    """Of a line of supervisord, which writes the machine's own time."""
    text = " ".join(line.split()[:2]).replace(",", ".")
    return datetime.fromisoformat(text).astimezone()


class Api:
    """The cloud's own, with a token."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.token = (instance.state / "token").read_text().strip()
        self._headers = {"Authorization": f"Bearer {self.token}"}

    def make(self, body: dict[str, Any]) -> dict[str, Any]:
        """The server, once it runs."""
        url = f"{self._instance.api_url}/servers"
        answer = httpx.post(url, headers=self._headers, json=body, timeout=30)
        assert answer.status_code == 201, answer.text
        number = answer.json()["server"]["id"]
        until(lambda: self.server(number)["status"] == "running", body["name"], seconds=90)
        return self.server(number)

    def server(self, number: int) -> dict[str, Any]:
        url = f"{self._instance.api_url}/servers/{number}"
        answer = httpx.get(url, headers=self._headers, timeout=10)
        server: dict[str, Any] = answer.raise_for_status().json()["server"]
        return server


def uptime(instance: Instance, server: dict[str, Any]) -> float:
    """Seconds that the guest's kernel has run."""
    login = logins.login_of(server)
    assert login is not None
    guests.wait_for_ssh(instance, login.uri, seconds=60)
    return float(guests.ssh(instance, login.uri, "cat /proc/uptime").stdout.split()[0])


def test_an_upgrade_of_a_lab_is_noticed_by_no_guest(checkout: Checkout) -> None:
    before = Machine.now()
    up = ("up", "--guest", "micro", "--hosts", "1", "--rootless", "1")
    checkout.deploy(*up)
    instance = checkout.instance
    api = Api(instance)
    public = api.make(order("public", "lab"))
    hidden = api.make(order("hidden", "desk", **behind_its_host(22, PORT)))
    (forward,) = [
        one for one in hidden["public_net"]["forwarded_ports"] if one["guest_port"] == PORT
    ]
    outside = Lab(instance.id).outside
    guests_before, programs = guest_processes(instance), own_programs(instance)
    uptimes = {server["id"]: uptime(instance, server) for server in (public, hidden)}

    renew(checkout.code)
    with (
        talking(public["public_net"]["ipv4"]["ip"], PORT, namespace=outside) as with_public,
        talking(forward["ip"], forward["port"], namespace=outside) as with_hidden,
    ):
        began = time.monotonic()
        checkout.deploy(*up)
        passed = time.monotonic() - began
        until(lambda: agent_versions(instance, api.token) == {NEW}, "agents are new", seconds=30)
    for kind, talk in (("root", with_public), ("user mode", with_hidden)):
        assert talk.broken == "", kind
        assert talk.heard == talk.sent > passed / 0.1 * 0.5, kind
        assert talk.longest_gap < LONGEST_GAP, kind
        records.add(Fault(f"agent upgrade, {kind}", round(talk.longest_gap, 1)))

    assert documented_version(instance) == NEW
    renewed = own_programs(instance)
    assert renewed.keys() == programs.keys() >= {*CONTROL, "agent-h1", "agent-r1"}
    assert not set(renewed.values()) & set(programs.values())
    assert guest_processes(instance) == guests_before
    ended, migrated, began_anew = around_the_migration(instance)
    assert ended < migrated < began_anew
    for server in (public, hidden):
        assert uptime(instance, server) > uptimes[server["id"]] + passed * 0.9
    checkout.user("hcloud server poweroff public")
    assert checkout.servers()["public"] == "off"

    checkout.deploy("down", "--purge")
    assert left_by(instance, before, Machine.now()) == []


def test_an_upgrade_of_a_cloud_without_root_is_noticed_by_no_guest(person: Person) -> None:
    person.types("deploy/up --guest micro")
    instance = state.load(person.state)
    assert instance is not None
    person.asks("/servers", order("echo", "desk", **behind_its_host(22, PORT)))
    until(lambda: servers(person)["echo"]["status"] == "running", "it runs", seconds=90)
    (forward,) = [
        one
        for one in servers(person)["echo"]["public_net"]["forwarded_ports"]
        if one["guest_port"] == PORT
    ]
    with talking(forward["ip"], forward["port"]) as talk:
        guests_before = guest_processes(instance)
        boot = person.in_guest("cat /proc/sys/kernel/random/boot_id")
        programs = {p for p in person.processes() if is_agent(p)}
        renew(person.checkout)
        shell.run(["chown", "-R", f"{person.name}:", person.checkout], timeout=60)
        person.types("deploy/up --guest micro")
        until(lambda: versions(person) == {NEW}, "the agent is new", seconds=30)
    assert talk.broken == ""
    assert talk.heard == talk.sent > 0
    assert talk.longest_gap < LONGEST_GAP
    records.add(Fault("agent upgrade, without root", round(talk.longest_gap, 1)))
    assert guest_processes(instance) == guests_before
    assert not programs & set(person.processes())
    assert person.in_guest("cat /proc/sys/kernel/random/boot_id") == boot
    person.types("deploy/down --purge")


def servers(person: Person) -> dict[str, dict[str, Any]]:
    return {server["name"]: server for server in person.asks("/servers")["servers"]}


def versions(person: Person) -> set[str]:
    return {host["agent_version"] for host in person.asks("/hosts")["hosts"]}


def is_agent(process: psutil.Process) -> bool:
    return {"cloud.agent", "vms.host.monitor"} & set(process.cmdline()) != set()
