"""`deploy/bench --rootless`: what switches of an ordinary user cost, beside a kernel bridge.

Two guests are namespaces, joined three ways at once: by a bridge of the kernel, by one VDE switch,
and by a cable inside TLS between two switches. Switches, plugs and cable are made as a host in user
mode makes them, and run as its user; into the namespaces they reach by TAPs that this user may
open. No emulated processor is measured. The kernel's own links pass segments of up to 64 KiB, a
VDE switch passes frames: that is a part of what it costs.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pyroute2 import IPRoute, netns
from rich.table import Table

from cloud import shell
from deploy import accounts
from deploy.benchmarks import cable
from deploy.benchmarks.errors import BenchmarkFailed
from deploy.benchmarks.statistics import summarise
from deploy.lab import Lab
from deploy.steps import Steps
from networks.host import switches
from networks.host.switches import Owner, Switch

KERNEL, SWITCH, CABLE = "kernel bridge", "one VDE switch", "VDE cable inside TLS"
_WAYS = (KERNEL, SWITCH, CABLE)
_PORT = 5201
_SECONDS = 3
_JOIN_SECONDS = 20.0


@dataclass(frozen=True)
class Result:
    """Mbit/s by way, in the order of the rounds."""

    mbit: Mapping[str, Sequence[float]]

    @property
    def kept(self) -> dict[str, float]:
        """Throughput as a part of the kernel bridge's, compared within each round: a machine with
        other work has its moods.
        """
        kernels = self.mbit[KERNEL]
        return {
            way: median(ours / kernel for ours, kernel in zip(samples, kernels, strict=True))
            for way, samples in self.mbit.items()
        }


@dataclass(frozen=True)
class _World:
    """`names`: the namespaces of both guests; `place`: a directory of the user's."""

    lab: Lab
    place: Path

    @property
    def names(self) -> tuple[str, str]:
        return self.lab.namespace("a"), self.lab.namespace("b")

    @property
    def middle(self) -> str:
        """Where the bridge is, and the loopback that the cable runs over."""
        return self.lab.namespace("m")


def measure(rounds: int, steps: Steps) -> Result:
    """All of it in namespaces of its own, which are gone afterwards. Raises BenchmarkFailed."""
    accounts.ensure_users()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        home.chmod(0o711)
        world = _World(Lab(secrets.token_hex(3)), accounts.own(home / "user", accounts.ROOTLESS))
        with steps.step("Bridge, switches and cable"):
            _make_namespaces(world, stack)
            _join_by_kernel(world)
            _join_by_switches(world, stack)
            for way in _WAYS:
                # One each: a server needs a moment after each turn.
                server = ("iperf3", "--server", "--port", _port(way))
                stack.enter_context(_program(world, world.names[1], *server))
                _wait_for(world, way)
        with steps.step(f"Throughput, {rounds} rounds in turns"):
            mbit: dict[str, list[float]] = {way: [] for way in _WAYS}
            for number in range(rounds):
                # Nobody always has the first turn, after which caches are warm.
                first = number % len(_WAYS)
                for way in (*_WAYS[first:], *_WAYS[:first]):
                    mbit[way].append(_throughput(world, way))
    return Result(mbit)


def document(result: Result) -> dict[str, object]:
    """What the JSON file holds."""
    return {
        "mbit": {way: list(samples) for way, samples in result.mbit.items()},
        "of_the_kernel_bridge": result.kept,
    }


def table(result: Result) -> Table:
    shown = Table(title="TCP from plug to plug: median (middle half)")
    for column in ("", "Mbit/s", "of the kernel bridge"):
        shown.add_column(column, justify="right" if column else "left")
    for way, samples in result.mbit.items():
        measured = summarise(samples)
        speed = f"{measured.median:.0f} ({measured.low:.0f}-{measured.high:.0f})"
        shown.add_row(way, speed, f"{result.kept[way]:.3f}")
    return shown


def _address(way: str, side: int) -> str:
    """Side 0 or 1; each way is a network of its own."""
    return f"10.77.{_WAYS.index(way)}.{side + 1}"


def _port(way: str) -> str:
    return str(_PORT + _WAYS.index(way))


def _make_namespaces(world: _World, stack: ExitStack) -> None:
    for name in (*world.names, world.middle):
        netns.create(name)
        stack.callback(netns.remove, name)
        with IPRoute(netns=name) as links:
            links.link("set", index=links.link_lookup(ifname="lo")[0], state="up")


def _join_by_kernel(world: _World) -> None:
    with IPRoute(netns=world.middle) as middle:
        middle.link("add", ifname="bridge", kind="bridge", br_forward_delay=0)
        bridge = middle.link_lookup(ifname="bridge")[0]
        middle.link("set", index=bridge, state="up")
        for side, name in enumerate(world.names):
            peer = {"ifname": "eth0", "net_ns_fd": name}
            middle.link("add", ifname=f"port{side}", kind="veth", peer=peer)
            port = middle.link_lookup(ifname=f"port{side}")[0]
            middle.link("set", index=port, master=bridge, state="up")
            _configure(name, "eth0", _address(KERNEL, side))


def _join_by_switches(world: _World, stack: ExitStack) -> None:
    entry = pwd.getpwnam(accounts.ROOTLESS)
    owner = Owner(entry.pw_uid, entry.pw_gid, tuple(_become()))
    shared, *ends = (Switch(world.place / name, owner=owner) for name in ("one", "left", "right"))
    for switch in (shared, *ends):
        stack.callback(switches.remove, switch)
        switches.ensure(switch)
    for side, (name, end) in enumerate(zip(world.names, ends, strict=True)):
        for tap, way, switch in (("vde0", SWITCH, shared), ("vde1", CABLE, end)):
            made = ["ip", "tuntap", "add", tap, "mode", "tap", "user", accounts.ROOTLESS]
            shell.run([*world.lab.enter(name), *made], timeout=10)
            _configure(name, tap, _address(way, side))
            plug = ("vde_plug2tap", "--sock", str(switch.place), tap)
            stack.enter_context(_program(world, name, *plug))
    programs = cable.programs(world.place, ends[0], ends[1])
    for argv in programs.accepting:
        stack.enter_context(_program(world, world.middle, *argv))
    _wait_for_cables(world)
    stack.enter_context(_program(world, world.middle, *programs.calling))


def _configure(namespace: str, name: str, address: str) -> None:
    with IPRoute(netns=namespace) as links:
        index = links.link_lookup(ifname=name)[0]
        links.link("set", index=index, state="up")
        links.addr("add", index=index, address=address, prefixlen=24)


@contextmanager
def _program(world: _World, namespace: str, *argv: str) -> Iterator[None]:
    """Something that runs inside as the user, until it is no longer needed."""
    command = [*world.lab.enter(namespace), *_become(), *argv]
    program = shell.spawn(command, log=Path(os.devnull))
    try:
        yield
    finally:
        program.terminate()
        program.wait()


def _become() -> list[str]:
    user = accounts.ROOTLESS
    drop = ["--reuid", user, "--regid", user, "--clear-groups"]
    return ["setpriv", "--pdeathsig", "KILL", *drop, "--bounding-set", "-all", "--no-new-privs"]


def _wait_for(world: _World, way: str) -> None:
    """Until the other side answers: a cable takes a moment."""
    argv = [*world.lab.enter(world.names[0]), "ping", "-c", "1", "-W", "1", _address(way, 1)]
    deadline = time.monotonic() + _JOIN_SECONDS
    while shell.run(argv, timeout=10, ok=(0, 1)).code != 0:
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"the {way} joined nothing within {_JOIN_SECONDS:g} s")
        time.sleep(0.1)


def _wait_for_cables(world: _World) -> None:
    """Until they are accepted."""
    argv = [*world.lab.enter(world.middle), "ss", "-Hltn", f"sport = :{cable.PORT}"]
    deadline = time.monotonic() + _JOIN_SECONDS
    while not shell.run(argv, timeout=10).stdout:
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"no cable was accepted within {_JOIN_SECONDS:g} s")
        time.sleep(0.1)


def _throughput(world: _World, way: str) -> float:
    """Mbit/s, as the receiver counts them."""
    said = shell.run(
        [
            *world.lab.enter(world.names[0]),
            *("iperf3", "--client", _address(way, 1), "--port", _port(way)),
            *("--time", str(_SECONDS), "--json"),
        ],
        timeout=_SECONDS + 30,
    ).stdout
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e6
