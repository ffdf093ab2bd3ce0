"""`deploy/bench --network`: what a host's rules cost, in time to set them and in throughput.

A lab of one host. The guest is a namespace behind the host's TAP: a process of our own carries
the frames between that TAP and the guest's interface, with the segmentation offloads that QEMU
would use. So the kernel's whole path is measured, and no emulated processor.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pyroute2 import IPRoute, netns

from cloud import shell
from deploy.benchmarks.errors import BenchmarkFailed
from deploy.benchmarks.verdicts import Verdict, network
from deploy.lab import Lab
from deploy.steps import Steps
from networks.host import addresses, nft, nics, routes
from networks.host.links import Tap, ensure_tap, raise_tap
from networks.host.nics import Surroundings
from networks.spec import FirewallSpec, NicSpec, RuleSpec

NICS = 500
_AROUND = Surroundings("uplink")
_GUEST, _PORT = "eth0", "5201"
_SECONDS = 1
_SETTLE_SECONDS = 0.2
# linux/if_tun.h
_TUNSETIFF, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_OFFLOADS = 0x01 | 0x02 | 0x04  # checksums, TSO for IPv4 and IPv6
_HEADER_BYTES, _FRAME_BYTES = 12, 2**16 + 128

_ANYBODY = ("0.0.0.0/0", "::/0")
_FIREWALL = FirewallSpec(
    (
        RuleSpec("in", "tcp", ("198.51.100.0/24",), (22, 22)),
        RuleSpec("in", "tcp", _ANYBODY, (80, 80)),
        RuleSpec("in", "tcp", _ANYBODY, (443, 443)),
        RuleSpec("in", "tcp", _ANYBODY, (int(_PORT), int(_PORT))),
        RuleSpec("in", "icmp", _ANYBODY),
    )
)


@dataclass(frozen=True)
class Result:
    """Seconds to set the rules of 500 NICs, and Mbit/s without and with them, by direction."""

    set_seconds: Sequence[float]
    replace_seconds: Sequence[float]
    bare: dict[str, list[float]]
    ruled: dict[str, list[float]]

    def verdicts(self) -> list[Verdict]:
        """Throughput is compared within each turn: a machine with other work has its moods."""
        kept = {
            way: median(
                ruled / bare for ruled, bare in zip(self.ruled[way], self.bare[way], strict=True)
            )
            for way in self.bare
        }
        return network(median(self.set_seconds), median(self.replace_seconds), kept)


def measure(rounds: int, steps: Steps) -> Result:
    """All of it in a lab of its own, which is gone afterwards. Raises BenchmarkFailed."""
    lab = Lab(secrets.token_hex(3))
    taps = [Tap(f"cu{number:x}-0", _nic(number), None) for number in range(1, NICS + 1)]
    with ExitStack() as stack:
        stack.callback(lab.remove)
        lab.ensure(1)
        stack.enter_context(_inside(lab.host(1)))
        with steps.step(f"Rules of {NICS} interfaces, {rounds} times"):
            _make_interfaces(taps)
            text = _text(taps)
            first, again = [], []
            for _ in range(rounds):
                first.append(_timed(text))
                again.append(_timed(text))
                nft.apply("flush ruleset\n")
        with steps.step(f"Throughput, {rounds} rounds in turns"):
            stack.enter_context(_guest(lab, taps[0]))
            bare: dict[str, list[float]] = {"to the guest": [], "from the guest": []}
            ruled: dict[str, list[float]] = {way: [] for way in bare}
            for number in range(rounds):
                turns = [(bare, "flush ruleset\n"), (ruled, text)]
                # Nobody always has the first turn, after which caches are warm.
                for speeds, rules in turns if number % 2 else reversed(turns):
                    nft.apply(rules)
                    time.sleep(_SETTLE_SECONDS)
                    for way in speeds:
                        speeds[way].append(_throughput(lab, taps[0], back=way != "to the guest"))
    return Result(first, again, bare, ruled)


def document(result: Result) -> dict[str, object]:
    """What the JSON file holds; times in seconds, throughput in Mbit/s."""
    return {
        "nics": NICS,
        "set_seconds": list(result.set_seconds),
        "replace_seconds": list(result.replace_seconds),
        "mbit_without_rules": result.bare,
        "mbit_with_rules": result.ruled,
    }


def _nic(number: int) -> NicSpec:
    high, low = divmod(number, 200)
    return NicSpec(
        nic_id=number,
        index=0,
        mac=f"02:00:00:00:{high:02x}:{low:02x}",
        mode="public_routed",
        ipv4=f"198.{18 + high}.0.{low + 1}",
        ipv6=f"2001:db8:a:{number:x}::/64",
        firewall=_FIREWALL,
    )


def _text(taps: Sequence[Tap]) -> str:
    with IPRoute() as netlink:
        uplink = nics.find_uplink(netlink, _AROUND)
    if uplink is None:
        raise BenchmarkFailed("the lab's host has no uplink")
    return nics.host_text(uplink, _AROUND) + nics.nic_texts(uplink, taps)


def _make_interfaces(taps: Sequence[Tap]) -> None:
    with IPRoute() as netlink:
        for tap in taps:
            ensure_tap(netlink, tap.name, tap.owner, _AROUND.host)


def _timed(text: str) -> float:
    began = time.monotonic()
    nft.apply(text)
    return time.monotonic() - began


@contextmanager
def _guest(lab: Lab, tap: Tap) -> Iterator[None]:
    """A namespace behind the TAP, with a server that takes and gives bytes."""
    with IPRoute() as netlink:
        uplink = nics.find_uplink(netlink, _AROUND)
        if uplink is None:
            raise BenchmarkFailed("the lab's host has no uplink")
        raise_tap(netlink, tap)
        routes.ensure_routes(netlink, uplink, tap)
    with IPRoute(netns=lab.outside) as outside:
        way = {"gateway": uplink.address, "oif": outside.link_lookup(ifname="fabric")[0]}
        outside.route("replace", dst=f"{tap.nic.ipv4}/32", **way)
    name = f"cu-{lab.id}-guest"
    netns.create(name)
    near = _open_tap(tap.name)
    with _inside(name):
        far = _open_tap(_GUEST)
    with IPRoute(netns=name) as netlink:
        index = netlink.link_lookup(ifname=_GUEST)[0]
        netlink.link("set", index=index, address=tap.nic.mac, state="up")
        netlink.addr("add", index=index, address=str(addresses.ipv4(tap.nic)[0]), prefixlen=32)
        netlink.route("add", dst=f"{tap.nic.gateway}/32", oif=index, scope=253)
        netlink.route("add", dst="default", gateway=tap.nic.gateway)
    for source, target in ((near, far), (far, near)):
        threading.Thread(target=_carry, args=(source, target), daemon=True).start()
    server = shell.spawn(
        [*lab.enter(name), "iperf3", "--server", "--port", _PORT], log=Path(os.devnull)
    )
    try:
        time.sleep(_SETTLE_SECONDS)
        yield
    finally:
        server.terminate()
        server.wait()


def _open_tap(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    fcntl.ioctl(descriptor, _TUNSETVNETHDRSZ, struct.pack("i", _HEADER_BYTES))
    fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _OFFLOADS)
    return descriptor


def _carry(source: int, target: int) -> None:
    """Frame by frame, until this process ends or an interface goes."""
    while True:
        try:
            os.write(target, os.read(source, _FRAME_BYTES))
        except OSError:
            return


def _throughput(lab: Lab, tap: Tap, *, back: bool) -> float:
    """Mbit/s between the outside and the guest, as the receiver counts them."""
    said = shell.run(
        [
            *lab.enter(lab.outside),
            *("iperf3", "--client", str(tap.nic.ipv4), "--port", _PORT),
            *("--time", str(_SECONDS), "--json", *(["--reverse"] if back else [])),
        ],
        timeout=_SECONDS + 30,
    ).stdout
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e6


@contextmanager
def _inside(namespace: str) -> Iterator[None]:
    netns.pushns(namespace)
    try:
        yield
    finally:
        netns.popns()
