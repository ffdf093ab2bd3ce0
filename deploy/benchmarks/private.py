"""`deploy/bench --private`: what a private network costs beyond the tunnel that it runs in.

A lab of two hosts, whose network is made as for any document. A guest is a namespace on a port of
the network's bridge, under the rules of a guest's NIC: so the kernel's and WireGuard's whole way
is measured, and no emulated processor. Beside it, in turns, the hosts themselves speak through the
bare tunnel.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pyroute2 import IPRoute, netns

from cloud import shell
from cloud.hostconfig import HostConfig
from deploy import accounts, lab
from deploy.benchmarks.errors import BenchmarkFailed
from deploy.benchmarks.verdicts import Verdict, private
from deploy.lab import Lab
from deploy.steps import Steps
from networks.host import mesh, nft, overlay, plan, private_rules
from networks.spec import MemberSpec, NetworkRemoval, NetworkSpec, NicSpec, PeerSpec, SubnetSpec
from vms.host import netstore, networks
from vms.host.host import Host

_NETWORK, _PORT = 1, "5201"
_SECONDS = 3
_PINGS, _PING_SECONDS = 400, 0.005
_SETTLE_SECONDS = 0.2
_UPLINK_MTUS = (1500, 9000)


@dataclass(frozen=True)
class Round:
    """Mbit/s and milliseconds there and back, through the bare tunnel and between guests."""

    bare_mbit: float
    guest_mbit: float
    bare_ms: float
    guest_ms: float


@dataclass(frozen=True)
class Result:
    """Rounds by the uplinks' MTU in bytes."""

    rounds: dict[int, list[Round]]

    def verdicts(self) -> list[Verdict]:
        """Compared within each round: a machine with other work has its moods."""
        return [
            verdict
            for mtu, rounds in self.rounds.items()
            for verdict in private(
                mtu,
                median(one.guest_mbit / one.bare_mbit for one in rounds),
                median(one.guest_ms - one.bare_ms for one in rounds),
            )
        ]


@dataclass(frozen=True)
class _Side:
    """One host, with its guest."""

    number: int
    host: Host
    namespace: str
    guest: str

    @property
    def tunnel_ip(self) -> str:
        return f"10.255.0.{self.number}"

    @property
    def nic(self) -> NicSpec:
        return NicSpec(
            nic_id=self.number,
            index=0,
            mac=f"02:00:00:00:00:0{self.number}",
            mode="private",
            ipv4=f"10.0.0.{10 + self.number}",
            prefix4=24,
            gateway="10.0.0.1",
            network_id=_NETWORK,
        )


def measure(rounds: int, steps: Steps) -> Result:
    """All of it in a lab of its own, which is gone afterwards. Raises BenchmarkFailed."""
    accounts.ensure_users()
    made = Lab(secrets.token_hex(3))
    measured: dict[int, list[Round]] = {}
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        stack.callback(made.remove)
        made.ensure(2)
        sides = [_side(made, home, number) for number in (1, 2)]
        for mtu in _UPLINK_MTUS:
            with (
                steps.step(f"Uplinks of {mtu} bytes, {rounds} rounds in turns"),
                _network(made, sides, mtu),
            ):
                measured[mtu] = [_round(made, sides, number) for number in range(rounds)]
    return Result(measured)


def document(result: Result) -> dict[str, object]:
    """What the JSON file holds; throughput in Mbit/s, times in milliseconds."""
    return {
        f"mtu_{mtu}": [
            {
                "bare_mbit": one.bare_mbit,
                "guest_mbit": one.guest_mbit,
                "bare_ms": one.bare_ms,
                "guest_ms": one.guest_ms,
            }
            for one in rounds
        ]
        for mtu, rounds in result.rounds.items()
    }


def _side(made: Lab, home: Path, number: int) -> _Side:
    place = home / f"h{number}"
    config = HostConfig(
        name=f"h{number}",
        broker_url="amqp://nobody@127.0.0.1:1/none",
        state_dir=place / "state",
        run_dir=place / "run",
        uplink=lab.UPLINK,
        qemu_user=accounts.QEMU,
    )
    return _Side(number, Host.open(config), made.host(number), f"{made.host(number)}-guest")


@contextmanager
def _network(made: Lab, sides: list[_Side], mtu: int) -> Iterator[None]:
    """The network on both hosts with a guest on each, and what the bare tunnel needs."""
    with ExitStack() as stack:
        with IPRoute(netns=made.outside) as outside:
            for name in (lab.BRIDGE, *(f"h{side.number}" for side in sides)):
                outside.link("set", index=outside.link_lookup(ifname=name)[0], mtu=mtu)
        keys = {side.number: networks.tunnel_key(side.host) for side in sides}
        generation = int(time.time() * 1000)
        for side in sides:
            with _inside(side.namespace), IPRoute() as netlink:
                netlink.link("set", index=netlink.link_lookup(ifname=lab.UPLINK)[0], mtu=mtu)
                stack.callback(_leave, side)
                _converge(side, _spec(sides, side, keys, generation))
                _admit_bare(side)
                guest_mtu = plan.mtu(_spec(sides, side, keys, generation), mtu)
                stack.enter_context(_guest(netlink, side, guest_mtu))
        for side in sides:
            for namespace in (side.namespace, side.guest):
                stack.enter_context(_server(made, namespace))
        time.sleep(_SETTLE_SECONDS)
        yield


def _spec(
    sides: list[_Side], own: _Side, keys: dict[int, str | None], generation: int
) -> NetworkSpec:
    return NetworkSpec(
        network_id=_NETWORK,
        host_uuid=own.host.uuid,
        generation=generation,
        vni=_NETWORK,
        ip_range="10.0.0.0/16",
        tunnel_ip=own.tunnel_ip,
        subnets=(SubnetSpec("10.0.0.0/24", "10.0.0.1"),),
        members=tuple(
            MemberSpec(side.nic.mac, side.host.uuid, (str(side.nic.ipv4),)) for side in sides
        ),
        peers=tuple(
            PeerSpec(
                side.host.uuid,
                keys[side.number] or "",
                side.tunnel_ip,
                f"{lab.uplink_address(side.number)}:51820",
            )
            for side in sides
            if side is not own
        ),
    )


def _converge(side: _Side, document: NetworkSpec | NetworkRemoval) -> None:
    netstore.accept(side.host.paths, document)
    report = networks.converge(side.host, _NETWORK)
    if report is None or report.failure:
        raise BenchmarkFailed(f"host {side.number} did not make the network: {report}")


def _leave(side: _Side) -> None:
    with _inside(side.namespace):
        generation = int(time.time() * 1000)
        _converge(side, NetworkRemoval(_NETWORK, side.host.uuid, generation))


def _admit_bare(side: _Side) -> None:
    """Hosts speak to each other through the tunnel for this measurement only."""
    tunnel = mesh.interface(side.host.uuid)
    nft.apply(
        f"insert rule inet {private_rules.TABLE} to_host iifname {tunnel}"
        f" tcp dport {_PORT} accept\n"
    )


@contextmanager
def _guest(netlink: IPRoute, side: _Side, mtu: int) -> Iterator[None]:
    """A namespace on a port of the bridge. The link does what a TAP would: it offloads."""
    port, nic, name = f"cu{side.number}-0", side.nic, plan.names(_NETWORK)
    netns.create(side.guest)
    try:
        peer = {"ifname": "eth0", "net_ns_fd": side.guest, "address": nic.mac}
        netlink.link("add", ifname=port, kind="veth", peer=peer)
        bridge = netlink.link_lookup(ifname=name.bridge)[0]
        overlay.ensure_port(netlink, port, bridge, mtu)
        overlay.enter(netlink, port, nic.mac)
        spec = netstore.network_of(side.host.paths, nic)
        if spec is None:
            raise BenchmarkFailed(f"host {side.number} has no network")
        nft.apply(private_rules.nic_rules(port, nic, spec))
        with IPRoute(netns=side.guest) as inner:
            index = inner.link_lookup(ifname="eth0")[0]
            inner.link("set", index=index, mtu=mtu, state="up")
            inner.addr("add", index=index, address=nic.ipv4, prefixlen=24)
        yield
    finally:
        netns.remove(side.guest)


@contextmanager
def _server(made: Lab, namespace: str) -> Iterator[None]:
    argv = [*made.enter(namespace), "iperf3", "--server", "--port", _PORT]
    server = shell.spawn(argv, log=Path(os.devnull))
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def _round(made: Lab, sides: list[_Side], number: int) -> Round:
    one, other = sides
    ways = {
        "bare": (one.namespace, other.tunnel_ip),
        "guest": (one.guest, str(other.nic.ipv4)),
    }
    mbit, ms = {}, {}
    # Nobody always has the first turn, after which caches are warm.
    for name in sorted(ways, reverse=bool(number % 2)):
        ms[name] = _latency(made, *ways[name])
        mbit[name] = _throughput(made, *ways[name])
    return Round(mbit["bare"], mbit["guest"], ms["bare"], ms["guest"])


def _throughput(made: Lab, namespace: str, address: str) -> float:
    """Mbit/s, as the receiver counts them."""
    said = shell.run(
        [
            *made.enter(namespace),
            *("iperf3", "--client", address, "--port", _PORT),
            *("--time", str(_SECONDS), "--json"),
        ],
        timeout=_SECONDS + 30,
    ).stdout
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e6


def _latency(made: Lab, namespace: str, address: str) -> float:
    """The mean of many echoes, in milliseconds."""
    said = shell.run(
        [
            *made.enter(namespace),
            *("ping", "-q", "-c", str(_PINGS), "-i", str(_PING_SECONDS), address),
        ],
        timeout=60,
    ).stdout
    found = re.search(r"= [0-9.]+/([0-9.]+)/", said)
    if found is None:
        raise BenchmarkFailed(f"ping said nothing of its times: {said}")
    return float(found[1])


@contextmanager
def _inside(namespace: str) -> Iterator[None]:
    netns.pushns(namespace)
    try:
        yield
    finally:
        netns.popns()
