"""What the agent and the process that leads a guest outside tell each other. Pure.

Orders go one way, an answer and counters the other, by files in a directory of theirs.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from networks.host.outside_filter import REASONS, Filter, Forwarded, Inside

# Frames and bytes from the guest, then towards it, then frames dropped by reason.
COUNTERS = struct.Struct(f"{4 + len(REASONS)}Q")


@dataclass(frozen=True)
class ForwardOrder:
    """A port of the host on `address` that leads to the guest's; 0.0.0.0: on all addresses."""

    protocol: str
    address: str
    port: int
    guest_port: int


@dataclass(frozen=True)
class Orders:
    """What the agent wants of this process, in a file. `forwards` and `protected` may change.

    `socket`: QEMU's. Everything else is text, as networks.spec has it.
    """

    socket: str
    network: str
    gateway: str
    resolver: str
    guest: str
    hostname: str
    mtu: int
    protected: tuple[str, ...]
    forwards: tuple[ForwardOrder, ...]

    def encode(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def decode(cls, text: bytes) -> Orders:
        """Raises ValueError, TypeError or KeyError."""
        read: dict[str, Any] = json.loads(text)
        forwards = tuple(ForwardOrder(**one) for one in read.pop("forwards"))
        protected = tuple(read.pop("protected"))
        return cls(**read, protected=protected, forwards=forwards)

    @property
    def inside(self) -> Inside:
        return Inside(
            IPv4Network(self.network), IPv4Address(self.gateway), IPv4Address(self.resolver)
        )

    @property
    def filter(self) -> Filter:
        ports = {
            protocol: frozenset(one.guest_port for one in self.forwards if one.protocol == protocol)
            for protocol in ("tcp", "udp")
        }
        protected = tuple(map(IPv4Network, self.protected))
        return Filter(self.inside, protected, Forwarded(**ports))


@dataclass(frozen=True)
class Place:
    """The directory of one NIC's process."""

    path: Path

    @property
    def orders(self) -> Path:
        return self.path / "orders.json"

    @property
    def answer(self) -> Path:
        """What became of the orders: their digest, and the forwards that could not be made."""
        return self.path / "answer.json"

    @property
    def counters(self) -> Path:
        return self.path / "counters"

    @property
    def socket(self) -> Path:
        return self.path / "frames"

    @property
    def pid(self) -> Path:
        return self.path / "pid"


def digest(orders: bytes) -> str:
    return hashlib.sha256(orders).hexdigest()
