"""Several hosts and the documents that control would send them about private networks."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any
from uuid import UUID, uuid5

from msgspec import structs

from deploy import lab
from networks.host import nics, wireguard
from networks.host.links import Tap
from networks.spec import (
    MemberSpec,
    NetworkRemoval,
    NetworkReport,
    NetworkSpec,
    NicReport,
    NicSpec,
    PeerSpec,
    SubnetSpec,
)
from tests.documents import a_spec
from tests.host.wire import Wire, plugged
from tests.host.world import World
from vms.host import networks, steps
from vms.spec import VmSpec

RANGE = "10.0.0.0/16"
EXPERIMENT = 0x88B5  # IEEE 802, local experiments
# A host may have known a network of that number before: each one's documents are newer.
_GENERATIONS = itertools.count(step=1000)
SUBNETS = (SubnetSpec("10.0.1.0/24", "10.0.1.1"), SubnetSpec("10.0.2.0/24", "10.0.2.1"))


def tunnel_ip(world: World) -> str:
    return f"10.255.0.{world.number}"


@dataclass
class Network:
    """What control knows of one network: its settings, and which NIC is on which host."""

    network_id: int
    settings: dict[str, Any] = field(default_factory=dict)
    placed: list[tuple[World, NicSpec]] = field(default_factory=list)
    generation: int = field(default_factory=_GENERATIONS.__next__)

    @property
    def hosts(self) -> list[World]:
        return list({world.number: world for world, _ in self.placed}.values())

    def nic(self, address: str, **changes: Any) -> NicSpec:
        """A NIC with this address; its MAC is made of network and address."""
        subnet = next(one for one in SUBNETS if address.startswith(one.gateway[:-1]))
        digits = "".join(f"{int(byte):02x}" for byte in address.split(".")[1:])
        mac = f"02{self.network_id:04x}{digits}"
        basis = NicSpec(
            nic_id=self.network_id * 1000 + int(address.rpartition(".")[2]),
            index=0,
            mac=":".join(mac[at : at + 2] for at in range(0, 12, 2)),
            mode="private",
            ipv4=address,
            prefix4=ip_network(subnet.ip_range).prefixlen,
            gateway=subnet.gateway,
            network_id=self.network_id,
            routes=(RANGE,),
        )
        return structs.replace(basis, **changes)

    def spec(
        self, world: World, *, without: World | None = None, callable: bool = True
    ) -> NetworkSpec:
        """`without`: a host that was removed; `callable`: the others are not behind NAT."""
        others = [one for one in self.hosts if one not in (world, without)]
        basis = NetworkSpec(
            network_id=self.network_id,
            host_uuid=world.host.uuid,
            generation=self.generation,
            vni=self.network_id,
            ip_range=RANGE,
            tunnel_ip=tunnel_ip(world),
            subnets=SUBNETS,
            members=tuple(
                MemberSpec(nic.mac, host.host.uuid, (str(nic.ipv4), *nic.floating))
                for host, nic in self.placed
                if host is not without
            ),
            peers=tuple(peer(other, callable=callable) for other in others),
        )
        return structs.replace(basis, **self.settings)

    def tell(self, *worlds: World, **more: Any) -> list[NetworkReport]:
        """Tell these hosts, or all that have a member."""
        self.generation += 1
        reports = []
        for world in worlds or self.hosts:
            with world.inside():
                reports.append(world.tell(self.spec(world, **more)))
        return reports

    def leave(self, world: World) -> NetworkReport:
        """The host has no member any more."""
        self.placed = [one for one in self.placed if one[0] is not world]
        self.generation += 1
        with world.inside():
            gone = NetworkRemoval(self.network_id, world.host.uuid, self.generation)
            return world.tell(gone)


def peer(world: World, *, callable: bool) -> PeerSpec:
    with world.inside():
        key = wireguard.ensure_key(networks.tunnel_place(world.host))
    endpoint = f"{lab.uplink_address(world.number)}:51820"
    return PeerSpec(world.host.uuid, key, tunnel_ip(world), endpoint if callable else None)


@contextmanager
def played(world: World, nic: NicSpec) -> Iterator[Wire]:
    """A guest that a test plays itself, at the end of a link that the host made for it."""
    with world.inside():
        tap = linked(world, nic)
    with ExitStack() as stack:
        with world.inside():
            wire = stack.enter_context(plugged(world, tap))
        yield wire
    with world.inside():
        nics.remove_nics([tap.name], (), world.host.surroundings)


def linked(world: World, nic: NicSpec) -> Tap:
    """The host makes the link as for a guest that is about to start."""
    spec = networks.fitted(world.host, document(world, nic))
    failure = steps.Steps(world.host, spec, steps.VmMemory()).take(steps.Step.ADD_LINKS)
    assert failure is None, failure
    (tap,) = world.host.taps(spec)
    return tap


def reported(world: World, nic: NicSpec) -> NicReport:
    with world.inside():
        (report,) = nics.reports(world.host.taps(document(world, nic)))
    return report


def document(world: World, *nics: NicSpec) -> VmSpec:
    """Of a VM that has this NIC first."""
    vm_id = nics[0].nic_id
    uuid = str(uuid5(UUID(world.host.uuid), f"server {vm_id}"))
    return a_spec(vm_id=vm_id, uuid=uuid, host_uuid=world.host.uuid, nics=nics)


def crosses(one: Wire, other: Wire, *, seconds: float = 5.0) -> bool:
    """Whether a frame gets from one guest to the other."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        one.send(EXPERIMENT, one.content, to=other.nic.mac)
        if other.hears(EXPERIMENT, one.content, seconds=0.1):
            return True
    return False
