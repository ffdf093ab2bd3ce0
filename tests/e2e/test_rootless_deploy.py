"""The README's commands as an ordinary user types them: a whole cloud without root, and back."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cloud import shell
from deploy import state
from tests.e2e.machine import Machine, left_by
from tests.e2e.person import Person

pytestmark = pytest.mark.rootless


def test_from_a_checkout_to_a_server_that_answers_ssh_and_back_without_root(
    person: Person,
) -> None:
    before = Machine.now()

    told = person.types("deploy/up --guest micro").stderr
    instance = state.load(person.state)
    assert instance is not None
    what_is_not_to_be_had_is_said_in_a_line_each(told)
    the_api_and_the_admin_show_the_port_that_leads_in(person, told)
    nobody_has_a_capability(person)
    other_users_see_nothing(person)
    root_keeps_its_hands_off(person)
    a_lab_is_refused_by_name(person)
    a_second_run_changes_nothing(person)
    what_went_down_comes_up_again(person)

    person.types("deploy/down --purge")
    assert person.processes() == []
    assert left_by(instance, before, Machine.now()) == []
    assert not person.state.exists()
    assert [p.name for p in (person.home / ".local/share").iterdir()] == []


def what_is_not_to_be_had_is_said_in_a_line_each(told: str) -> None:
    lacks = [line for line in told.splitlines() if "without root: no" in line]
    for word in ("public addresses", "users"):
        assert len([line for line in lacks if word in line]) == 1, told


def the_api_and_the_admin_show_the_port_that_leads_in(person: Person, told: str) -> None:
    assert re.search(r"ssh -F \S+ root@first", told), told
    server = person.server()
    assert server["public_net"]["ipv4"] is None
    (forward,) = server["public_net"]["forwarded_ports"]
    assert (forward["ip"], forward["guest_port"]) == ("127.0.0.1", 22)

    boot = "cat /proc/sys/kernel/random/boot_id"
    by_port = person.in_guest(boot, f"-p {forward['port']} root@127.0.0.1")
    assert by_port == person.in_guest(boot)
    assert str(forward["port"]) in admin_page(person, f"vms/vm/{server['id']}/change/")


def admin_page(person: Person, path: str) -> str:
    """A page as the admin shows it to somebody who logged in."""
    script = f"""
    . .cumulet/env
    jar=$(mktemp) && trap 'rm -f $jar' EXIT
    login=${{CUMULET_ADMIN_URL}}login/
    curl -sf -c $jar -o /dev/null $login
    token=$(awk '$6 == "csrftoken" {{ print $7 }}' $jar)
    curl -sf -b $jar -c $jar -o /dev/null -H "Referer: $login" $login \\
        -d csrfmiddlewaretoken=$token -d username=$CUMULET_ADMIN_USER \\
        --data-urlencode "password=$CUMULET_ADMIN_PASSWORD" -d next=/admin/
    curl -sf -b $jar ${{CUMULET_ADMIN_URL}}{path}
    """
    return person.types(script).stdout


def nobody_has_a_capability(person: Person) -> None:
    names = set()
    for process in person.processes():
        with suppress(FileNotFoundError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert "CapEff:\t0000000000000000" in status, process
            names.add(process.name())
    assert any(name.startswith("qemu-system") for name in names), names


def other_users_see_nothing(person: Person) -> None:
    """Neither disks nor sockets: not even which there are."""
    for place in (person.home / ".local/share/cumulet", person.state):
        look = ["setpriv", "--reuid", "nobody", "--clear-groups", "find", place]
        seen = shell.run(look, timeout=30, ok=range(2))
        assert seen.stdout.split() in ([], [str(place)])
        assert "Permission denied" in seen.stderr


def root_keeps_its_hands_off(person: Person) -> None:
    """A cloud that root started would be another one, with the same name and ports."""
    refused = shell.run([person.checkout / "deploy/up"], timeout=60, ok=(1,))
    assert refused.stderr.strip().splitlines()[-1].startswith("state_of_another_user: ")


def a_lab_is_refused_by_name(person: Person) -> None:
    refused = person.types("deploy/up --hosts 2", ok=range(1, 2))
    assert refused.stderr.strip().splitlines()[-1].startswith("root_needed: ")


def a_second_run_changes_nothing(person: Person) -> None:
    def running() -> set[int]:
        guests = (p for p in person.processes() if "postgres" not in p.name())
        return {p.pid for p in guests if p.create_time() < began}

    began = time.time()
    before = running()
    person.types("deploy/up --guest micro")
    assert running() == before


def what_went_down_comes_up_again(person: Person) -> None:
    boot = person.in_guest("cat /proc/sys/kernel/random/boot_id")
    ports = person.server()["public_net"]["forwarded_ports"]
    person.types("deploy/down")
    assert person.processes() == []
    person.types("deploy/up --guest micro")
    assert person.server()["public_net"]["forwarded_ports"] == ports
    assert person.in_guest("cat /proc/sys/kernel/random/boot_id") != boot
