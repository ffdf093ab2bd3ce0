"""The internet as tests see it: calls from the lab's outside namespace, and a network beside it."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyroute2 import netns

from cloud import shell
from deploy import lab
from tests.e2e.world import World, until

# A network of an operator's own on the wire of the hosts' uplinks, for bridged servers.
LAN, LAN_GATEWAY = "10.77.0.0/24", "10.77.0.1"
LAN6, LAN_GATEWAY6 = "2001:db8:b::/48", "2001:db8:b::1"
_ALL = 0x0003  # ETH_P_ALL, packet(7)
_SO_RCVBUFFORCE = 33  # socket(7)


def run(world: World, *command: str, ok: range = range(1)) -> shell.Result:
    net = world.cloud.lab
    return shell.run([*net.enter(net.outside), *command], timeout=60, ok=ok)


def page(world: World, address: str, port: int = 80) -> str:
    """What is served there; nothing if nobody answers within a second."""
    where = f"[{address}]" if ":" in address else address
    fetch = (
        "curl",
        "--silent",
        "--connect-timeout",
        "1",
        "--max-time",
        "5",
        f"http://{where}:{port}",
    )
    return run(world, *fetch, ok=range(256)).stdout.strip()


def serves(world: World, address: str, expected: str) -> None:
    until(lambda: page(world, address) == expected, f"{address} serves {expected}", seconds=60)


def answers(world: World, address: str) -> bool:
    """Whether one of three pings is answered."""
    return run(world, "ping", "-c3", "-i0.2", "-W1", address, ok=range(2)).code == 0


@contextmanager
def calling(world: World, address: str, port: int) -> Iterator[socket.socket]:
    """An open TCP connection."""
    with _inside(world):
        caller = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    with caller:
        caller.settimeout(3)
        caller.connect((address, port))
        yield caller


def echoes(caller: socket.socket, said: bytes) -> bool:
    try:
        caller.sendall(said)
        return caller.recv(len(said)) == said
    except OSError:
        return False


def answers_http(caller: socket.socket) -> bool:
    try:
        caller.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return bool(caller.recv(1))
    except OSError:
        return False


@contextmanager
def hearing(world: World, wanted: Callable[[bytes], bool]) -> Iterator[Callable[[], bool]]:
    """Whether such a frame came by on the fabric since then."""
    with _inside(world):
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    heard: list[bytes] = []

    def came() -> bool:
        listener.setblocking(False)
        with suppress(BlockingIOError):
            while frame := listener.recv(2048):
                heard.append(frame)
        return any(map(wanted, heard))

    with listener:
        # Room for all that passes while the test does something else.
        listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 * 1024 * 1024)
        yield came


@contextmanager
def beyond(world: World, address: str) -> Iterator[None]:
    """The outside has this address too, in no network of the hosts'."""
    run(world, "ip", "address", "add", f"{address}/32", "dev", "lo")
    try:
        yield
    finally:
        run(world, "ip", "address", "del", f"{address}/32", "dev", "lo")


def says(sender: str) -> Callable[[bytes], bool]:
    """Frames in which this IPv4 address is the sender's, in IP or in ARP."""
    packed = socket.inet_aton(sender)
    return lambda frame: packed in (frame[26:30], frame[28:32])


@contextmanager
def dhcp(world: World, gateway: str, leases: str, home: Path) -> Iterator[None]:
    """The outside network gives addresses by itself."""
    run(world, "ip", "address", "replace", f"{gateway}/24", "dev", lab.BRIDGE)
    net = world.cloud.lab
    server = shell.spawn(
        [
            *(*net.enter(net.outside), "dnsmasq", "--keep-in-foreground", "--port=0"),
            *("--conf-file=/dev/null", f"--interface={lab.BRIDGE}", "--bind-interfaces"),
            *("--no-ping", "--user=root", f"--dhcp-range={leases},255.255.255.0,1h"),
            *("--dhcp-authoritative", f"--dhcp-option=option:router,{gateway}"),
            *(f"--dhcp-leasefile={home / 'leases'}", f"--pid-file={home / 'pid'}"),
        ],
        log=home / "dnsmasq.log",
    )
    try:
        yield
    finally:
        server.terminate()
        server.wait(10)
        run(world, "ip", "address", "del", f"{gateway}/24", "dev", lab.BRIDGE)


@contextmanager
def _inside(world: World) -> Iterator[None]:
    netns.pushns(world.cloud.lab.outside)
    try:
        yield
    finally:
        netns.popns()


@contextmanager
def pinging(world: World, address: str, log: Path) -> Iterator[None]:
    """Ping every 0.05 s; `lost` tells afterwards how often nobody answered."""
    net = world.cloud.lab
    ping = shell.spawn(
        [*net.enter(net.outside), "ping", "-i", "0.05", "-W", "1", "-n", address], log=log
    )
    try:
        until(lambda: "icmp_seq=2" in log.read_text(), f"{address} answers pings", seconds=20)
        yield
        time.sleep(0.5)
    finally:
        _interrupt(ping)


def lost(log: Path) -> int:
    """By the sequence numbers between the first and the last answer."""
    answered = [
        int(line.split("icmp_seq=")[1].split()[0])
        for line in log.read_text().splitlines()
        if "bytes from" in line
    ]
    return max(answered) - min(answered) + 1 - len(set(answered))


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(10)


@contextmanager
def lan(world: World) -> Iterator[None]:
    """The outside has a leg in the operator's own network."""
    legs = (f"{LAN_GATEWAY}/24", f"{LAN_GATEWAY6}/48")
    for leg in legs:
        run(world, "ip", "address", "replace", leg, "dev", lab.BRIDGE)
    try:
        yield
    finally:
        for leg in legs:
            run(world, "ip", "address", "del", leg, "dev", lab.BRIDGE)
