"""What a server's document takes for itself alone: addresses, ports of its host. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from vms.drift.spec import HeldPrivate, HeldServer
from vms.spec import VmSpec

_PUBLIC = ("public_routed", "public_bridged")


@dataclass(frozen=True)
class Claims:
    """As a `HeldServer` names them, in no order."""

    addresses: frozenset[str] = frozenset()
    ports: frozenset[str] = frozenset()
    private: frozenset[tuple[int, str]] = frozenset()

    def __str__(self) -> str:
        shown = [*self.addresses, *self.ports, *(f"{ip} in network #{n}" for n, ip in self.private)]
        return ", ".join(sorted(shown)) or "no address"


def claims_in(held: HeldServer) -> Claims:
    return Claims(
        frozenset(held.addresses),
        frozenset(held.ports),
        frozenset((one.network_id, address) for one in held.private for address in one.addresses),
    )


def addresses_of(spec: VmSpec) -> tuple[str, ...]:
    """Public addresses and /64 networks, as the document writes them."""
    public = [nic for nic in spec.nics if nic.mode in _PUBLIC]
    told = [text for nic in public for text in (nic.ipv4, nic.ipv6, *nic.floating)]
    return tuple(text for text in told if text is not None)


def ports_of(spec: VmSpec) -> tuple[str, ...]:
    """Ports of the host that lead to the server, such as "tcp/30000"."""
    return tuple(f"{one.protocol}/{one.port}" for nic in spec.nics for one in nic.forwards)


def private_of(spec: VmSpec) -> tuple[HeldPrivate, ...]:
    return tuple(
        HeldPrivate(nic.network_id, tuple(one for one in (nic.ipv4, *nic.floating) if one))
        for nic in spec.nics
        if nic.network_id is not None
    )


def claims_of(spec: VmSpec) -> Claims:
    """What the document of the inventory claims."""
    private = private_of(spec)
    return Claims(
        frozenset(addresses_of(spec)),
        frozenset(ports_of(spec)),
        frozenset((one.network_id, address) for one in private for address in one.addresses),
    )
