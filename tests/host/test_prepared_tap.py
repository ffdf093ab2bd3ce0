"""A TAP that root prepared once: its user opens it, and the outside reaches what is behind it."""

from __future__ import annotations

import pwd
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud import shell
from deploy import accounts, lab, prepared_tap, state
from deploy.lab import Lab
from tests.host.world import until

pytestmark = pytest.mark.rootless
USER = accounts.ROOTLESS
POOL, GUEST, STRANGER = "198.51.100.0/24", "198.51.100.20", "198.18.0.1"
DEPLOY = state.CHECKOUT / "deploy"


@pytest.fixture(autouse=True)
def user() -> None:
    accounts.ensure_users()


def tap() -> str:
    return prepared_tap.name_for(USER, pwd.getpwnam(USER).pw_uid)


def prepare(own_lab: Lab, *options: str, ok: range = range(1)) -> shell.Result:
    command = [DEPLOY / "host", "prepare-tap", USER, "--uplink", lab.UPLINK, *options]
    return shell.run([*own_lab.enter(own_lab.host(1)), *command], timeout=60, ok=ok)


def inside(own_lab: Lab, *command: str, ok: range = range(1)) -> str:
    return shell.run([*own_lab.enter(own_lab.host(1)), *command], timeout=15, ok=ok).stdout


def state_of(own_lab: Lab) -> list[str]:
    """Everything that the command may change, but for counters and times."""
    commands = (
        "ip -brief addr",
        "ip route",
        "ip -6 route",
        "ip neigh show proxy",
        "nft list ruleset",
    )
    return [inside(own_lab, *command.split()) for command in commands]


def answers(own_lab: Lab, address: str) -> bool:
    ping = [*own_lab.enter(own_lab.outside), "ping", "-c", "1", "-W", "1", address]
    return shell.run(ping, timeout=10, ok=(0, 1)).code == 0


@contextmanager
def guest(own_lab: Lab, address: str, asks: str = "0.0.0.0") -> Iterator[Path]:
    """A program of the user's that has the TAP: it is `address`, and pings `asks` meanwhile.

    Gives the file in which it says who answered.
    """
    heard = Path("/tmp") / f"heard-{own_lab.id}"
    heard.touch()
    drop = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", "--bounding-set", "-all"]
    script = state.CHECKOUT / "tests/host/tap_guest.py"
    program = shell.spawn(
        [*own_lab.enter(own_lab.host(1)), *drop, sys.executable, script, tap(), address, asks],
        log=heard,
    )
    try:
        yield heard
    finally:
        program.kill()
        program.wait()
        heard.unlink()


def test_the_outside_reaches_the_users_addresses(own_lab: Lab) -> None:
    prepare(own_lab, "--pool", POOL, "--run")
    assert not answers(own_lab, GUEST)
    with guest(own_lab, GUEST):
        until(lambda: answers(own_lab, GUEST), "the guest answers", seconds=10)


def test_it_may_be_prepared_again_and_taken_back(own_lab: Lab) -> None:
    before = state_of(own_lab)
    prepare(own_lab, "--pool", POOL, "--pool", "2001:db8:a::/60", "--run")
    prepared = state_of(own_lab)
    prepare(own_lab, "--pool", POOL, "--pool", "2001:db8:a::/60", "--run")
    assert state_of(own_lab) == prepared
    prepare(own_lab, "--pool", POOL, "--run")
    assert "2001:db8:a:" not in "".join(state_of(own_lab))
    prepare(own_lab, "--remove", "--run")
    assert state_of(own_lab) == before
    prepare(own_lab, "--remove", "--run")


def test_the_machines_own_rules_stay(own_lab: Lab) -> None:
    inside(own_lab, "nft", "add", "table", "inet", "of_the_operator")
    prepare(own_lab, "--pool", POOL, "--run")
    prepare(own_lab, "--remove", "--run")
    assert "of_the_operator" in inside(own_lab, "nft", "list", "tables")


def test_guests_speak_under_their_own_addresses_only(own_lab: Lab) -> None:
    prepare(own_lab, "--pool", POOL, "--run")
    own_lab_route(own_lab, STRANGER)
    with guest(own_lab, GUEST, asks="203.0.113.1") as heard:
        until(lambda: "203.0.113.1" in heard.read_text(), "the world answers", seconds=10)
    with guest(own_lab, STRANGER, asks="203.0.113.1") as heard, pytest.raises(AssertionError):
        until(lambda: "203.0.113.1" in heard.read_text(), "an answer to a forger", seconds=3)


@pytest.mark.parametrize("protected", [lab.uplink_address(1), lab.CONTROL, lab.ROUTER])
def test_guests_reach_neither_the_host_nor_its_networks(own_lab: Lab, protected: str) -> None:
    prepare(own_lab, "--pool", POOL, "--run")
    with guest(own_lab, GUEST, asks=protected) as heard:
        until(lambda: answers(own_lab, GUEST), "the guest answers", seconds=10)
        with pytest.raises(AssertionError):
            until(lambda: protected in heard.read_text(), "an answer", seconds=2)


def test_another_user_cannot_open_it(own_lab: Lab) -> None:
    prepare(own_lab, "--pool", POOL, "--run")
    drop = ["setpriv", "--reuid", "nobody", "--clear-groups", "--bounding-set", "-all"]
    script = state.CHECKOUT / "tests/host/tap_guest.py"
    command = [*own_lab.enter(own_lab.host(1)), *drop, sys.executable, script, tap(), GUEST, GUEST]
    assert "not permitted" in shell.run(command, timeout=15, ok=(1,)).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["nobody-at-all", "--pool", POOL], "user_unknown", id="an unknown user"),
        pytest.param(["root", "--pool", POOL], "user_unknown", id="root"),
        pytest.param([USER], "bad_pool", id="no pool"),
        pytest.param([USER, "--pool", "198.51.100.1/24"], "bad_pool", id="a host's address"),
        pytest.param([USER, "--pool", "2001:db8::/80"], "bad_pool", id="too small for IPv6"),
        pytest.param([USER, "--pool", POOL, "--pool", POOL], "bad_pool", id="the same twice"),
        pytest.param([USER, "--pool", POOL, "--uplink", "no"], "uplink_missing", id="no uplink"),
    ],
)
def test_wrong_input_is_refused_by_name(arguments: list[str], said: str) -> None:
    result = shell.run([DEPLOY / "host", "prepare-tap", *arguments], timeout=60, ok=(1,))
    assert result.stderr.strip().splitlines()[-1].startswith(f"{said}: ")


def own_lab_route(own_lab: Lab, address: str) -> None:
    """The world would find its way back to a forged address."""
    command = ["ip", "route", "add", address, "via", lab.uplink_address(1)]
    shell.run([*own_lab.enter(own_lab.outside), *command], timeout=10)
    inside(own_lab, "ip", "route", "add", address, "dev", tap())
    outside = ["ip", "address", "add", "203.0.113.1/32", "dev", "lo"]
    shell.run([*own_lab.enter(own_lab.outside), *outside], timeout=10)
