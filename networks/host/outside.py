"""A guest in user mode and the world: `python -m networks.host.outside PLACE`, one for each NIC.

QEMU and this process send each other frames as datagrams, so that either may start anew. What the
guest sends passes `networks.host.outside_filter`, then libslirp makes connections of it. The agent
(`networks.host.outlets`) writes orders into the place, sends SIGHUP, and finds there what became
of them. Small on purpose, as there is one for each guest: the standard library and nothing else.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from ipaddress import IPv4Address
from pathlib import Path

from networks.host.outside_filter import REASONS
from networks.host.outside_orders import COUNTERS, ForwardOrder, Orders, Place, digest
from networks.host.slirp import Forward, Settings, Slirp

# Far above what 1000 busy connections need; a guest makes the process no larger.
_MEMORY_BYTES = 256 * 2**20
_DESCRIPTORS = 1024
_FRAME_BYTES = 2**16
# Frames taken at once, before the connections have their turn.
_BURST = 64
_IDLE_MILLISECONDS = 1000
# How long a guest that takes nothing may hold up its own connections, for each frame.
_GUEST_SECONDS = 0.01
_PR_SET_NO_NEW_PRIVS = 38


class Outside:
    """The loop: frames of the guest, events of its connections, orders of the agent."""

    def __init__(self, place: Place, guest: socket.socket, counters: mmap.mmap) -> None:
        self._place = place
        self._guest = guest
        self._counters = counters
        self._counted = list(COUNTERS.unpack_from(counters))
        text = place.orders.read_bytes()
        orders = Orders.decode(text)
        self._to = orders.socket
        self._filter = orders.filter
        self._slirp = Slirp(_settings(orders), self._send)
        self._made: set[ForwardOrder] = set()
        self._obey(text, orders)
        self._ended = self._told = False

    def run(self, bell: socket.socket) -> None:
        """Until SIGTERM. `bell` can be read when a signal came."""
        while not self._ended:
            ready = self._slirp.wait((self._guest.fileno(), bell.fileno()), _IDLE_MILLISECONDS)
            if self._guest.fileno() in ready:
                self._take()
            if bell.fileno() in ready:
                bell.recv(_BURST)
            if self._told:
                self._told = False
                text = self._place.orders.read_bytes()
                self._obey(text, Orders.decode(text))
            COUNTERS.pack_into(self._counters, 0, *self._counted)
        self._slirp.close()

    def end(self, *_: object) -> None:
        self._ended = True

    def tell(self, *_: object) -> None:
        """There are new orders."""
        self._told = True

    def _take(self) -> None:
        for _ in range(_BURST):
            try:
                frame = self._guest.recv(_FRAME_BYTES)
            except OSError:
                return
            self._counted[0] += 1
            self._counted[1] += len(frame)
            if reason := self._filter.reason(frame):
                self._counted[4 + REASONS.index(reason)] += 1
            else:
                self._slirp.take(frame)

    def _send(self, frame: bytes) -> None:
        self._filter.note(frame)
        self._counted[2] += 1
        self._counted[3] += len(frame)
        with suppress(OSError):  # there is no QEMU, or its guest takes nothing: as on any wire
            try:
                self._guest.sendto(frame, self._to)
            except BlockingIOError:
                select.select([], [self._guest], [], _GUEST_SECONDS)
                self._guest.sendto(frame, self._to)

    def _obey(self, text: bytes, orders: Orders) -> None:
        self._filter = orders.filter.after(self._filter)
        for gone in self._made - set(orders.forwards):
            self._slirp.remove(_forward(gone))
            self._made.discard(gone)
        refused = []
        for one in orders.forwards:
            if one in self._made:
                continue
            try:
                self._slirp.add(_forward(one))
                self._made.add(one)
            except OSError as error:
                refused.append({**asdict(one), "reason": error.strerror})
        answer = {"orders": digest(text), "refused": refused}
        draft = self._place.answer.with_suffix(".new")
        draft.write_text(json.dumps(answer))
        draft.replace(self._place.answer)


def _settings(orders: Orders) -> Settings:
    return Settings(orders.inside, IPv4Address(orders.guest), orders.hostname, orders.mtu)


def _forward(order: ForwardOrder) -> Forward:
    udp = order.protocol == "udp"
    return Forward(udp, IPv4Address(order.address), order.port, order.guest_port)


def main() -> None:
    place = Place(Path(sys.argv[1]))
    _confine()
    place.pid.write_text(str(os.getpid()))
    with _bound(place.socket) as guest, _mapped(place.counters) as counters:
        outside = Outside(place, guest, counters)
        signal.signal(signal.SIGTERM, outside.end)
        signal.signal(signal.SIGHUP, outside.tell)
        ours, bell = socket.socketpair()
        ours.setblocking(False)
        signal.set_wakeup_fd(ours.fileno())
        outside.run(bell)


def _confine() -> None:
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


@contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    """Where QEMU sends to. One that was killed has left its socket."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(path))
        made.setblocking(False)
        yield made
    path.unlink(missing_ok=True)


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    """Counters go on where the last process left them."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.truncate(descriptor, COUNTERS.size)
        with mmap.mmap(descriptor, COUNTERS.size) as counters:
            yield counters
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
