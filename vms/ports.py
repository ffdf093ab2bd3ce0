"""Which ports of a host in user mode lead to a server: rows only, in the transaction of a caller.

The caller has locked the host, so that nobody else takes its ports meanwhile; the unique constraint
is the guarantee behind it. Raising the generation, so that the host hears of it, is up to the
caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from django.db.models import Count, F

from cloud.errors import LimitExceeded, ResourceUnavailable, invalid
from cloud.models import Host
from vms.holdings import Holding
from vms.interfaces import ForwardedPort, Nic

# The wire contract's bound of `NicSpec.forwards`.
MOST_FORWARDS: Final = 64
PROTOCOLS: Final = tuple(ForwardedPort.Protocol.values)


@dataclass(frozen=True)
class Forward:
    """A port of a server that is to be reached from outside. Which of the host's: it is chosen."""

    protocol: str
    guest_port: int


SSH: Final = Forward("tcp", 22)


def check_forwards(forwards: Sequence[Forward], field: str = "forwarded_ports") -> None:
    """Raises InvalidInput (unknown protocol, no port, named twice) or LimitExceeded."""
    for one in forwards:
        if one.protocol not in PROTOCOLS:
            raise invalid(field, f"{one.protocol!r} is not one of {', '.join(PROTOCOLS)}")
        if not 1 <= one.guest_port <= 65535:
            raise invalid(field, f"{one.guest_port} is no port: use 1 to 65535")
    if doubled := [one for one, count in Counter(forwards).items() if count > 1]:
        raise invalid(field, f"{doubled[0].guest_port}/{doubled[0].protocol} is named twice")
    if len(forwards) > MOST_FORWARDS:
        raise LimitExceeded(
            "forwarded_ports", f"a server has at most {MOST_FORWARDS} forwarded ports"
        )


def lead(nic: Nic, host: Host, forwards: Iterable[Forward]) -> None:
    """Let ports of the host lead to exactly these of the server; raises ResourceUnavailable.

    What stays keeps its port. What goes stays the server's until the host has let go of it, and is
    the same again if it is asked for before.
    """
    wanted = set(forwards)
    known = {Forward(one.protocol, one.guest_port): one for one in nic.forwards.all()}
    for forward, row in known.items():
        withdrawn = None if forward in wanted else row.withdrawn or nic.vm.generation + 1
        if withdrawn != row.withdrawn:
            row.withdrawn = withdrawn
            row.save(update_fields=["withdrawn"])
    for protocol in PROTOCOLS:
        new = sorted(one.guest_port for one in wanted - set(known) if one.protocol == protocol)
        ForwardedPort.objects.bulk_create(
            ForwardedPort(host=host, nic=nic, protocol=protocol, port=port, guest_port=guest_port)
            for port, guest_port in zip(_lowest_free(host, protocol, len(new)), new, strict=True)
        )


def let_go(server_id: int, generation: int) -> None:
    """The server's host proved this generation: ports withdrawn by then may be lent again."""
    ForwardedPort.objects.filter(nic__vm=server_id, withdrawn__lte=generation).delete()


def free_ports(hosts: Iterable[Host]) -> dict[int, Mapping[str, int]]:
    """How many ports each of the hosts that forward some has left, by protocol."""
    forwarding = [host for host in hosts if _range(host)]
    taken = {
        (row["host"], row["protocol"]): row["taken"]
        for row in ForwardedPort.objects.filter(
            host__in=forwarding,
            port__range=(F("host__first_forward_port"), F("host__last_forward_port")),
        )
        .order_by()
        .values("host", "protocol")
        .annotate(taken=Count("pk"))
    }
    return {
        host.pk: {
            protocol: len(_range(host)) - taken.get((host.pk, protocol), 0)
            for protocol in PROTOCOLS
        }
        for host in forwarding
    }


def by_protocol(forwards: Iterable[Forward]) -> Mapping[str, int]:
    """How many ports these need."""
    return Counter(one.protocol for one in forwards)


def _lowest_free(host: Host, protocol: str, count: int) -> list[int]:
    if not count:
        return []
    rows = ForwardedPort.objects.filter(host=host, protocol=protocol)
    held = Holding.objects.ports_of(host.pk, protocol)
    taken = set(rows.values_list("port", flat=True)) | held
    free = [port for port in _range(host) if port not in taken][:count]
    if len(free) < count:
        raise ResourceUnavailable(
            f"host {host} has {len(free)} {protocol} ports free of {count} needed: give some back,"
            " or widen its CUMULET_HOST_FORWARD_PORTS"
        )
    return free


def _range(host: Host) -> range:
    """Empty for a host that forwards none, or does so no more."""
    if not (host.forward_ip and host.last_forward_port):
        return range(0)
    return range(host.first_forward_port, host.last_forward_port + 1)
