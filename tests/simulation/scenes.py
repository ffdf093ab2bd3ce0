"""What users do: each scene is one request to a cloud that was at rest, on every kind of host."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cloud.errors import NotFound
from cloud.models import Host
from networks.models import Firewall, FloatingIp, IpType, PrimaryIp, PrivateNetwork
from networks.public_ips import IpOrder
from tests import factories as make
from tests.simulation.world import Plan, World
from vms.actions import PowerCommand, create_vm, delete_vm, power
from vms.attachments import PublicNet
from vms.firewalls import actions as firewalls
from vms.firewalls.actions import FirewallOrder, Target
from vms.floating_ips import assign_floating_ip, create_floating_ip, unassign_floating_ip
from vms.forwarding import change_forwarded_ports
from vms.images import plan_copies
from vms.models import VM, Image
from vms.ports import SSH, Forward
from vms.primary_ips import assign_primary_ip, unassign_primary_ip
from vms.private.actions import (
    NetworkOrder,
    RouteOrder,
    SubnetOrder,
    add_route,
    create_network,
    delete_network,
    update_network,
)
from vms.private.servers import attach_to_network, change_alias_ips, detach_from_network

ROOT = Plan(routed=("h1", "h2"))
USER = Plan(routed=(), user=("u1",))
NOWHERE = PublicNet(ipv4=False, ipv6=False)
_IMAGE_BYTES = 4096
_RULES = [{"direction": "in", "protocol": "tcp", "port": "80", "source_ips": ["0.0.0.0/0", "::/0"]}]


@dataclass
class Stage:
    """The cloud as a user sees it."""

    world: World

    def server(self, name: str = "web-1", on: str | None = None, **values: Any) -> VM:
        if on:
            Host.objects.exclude(name=on).update(schedulable=False)
        order = make.order(name, **values)
        vm = create_vm(make.project(), order).vm
        Host.objects.update(schedulable=True)
        return vm

    def vm(self, name: str = "web-1") -> VM:
        """Found as doors find it; raises NotFound."""
        vms = VM.objects.select_related("host__location", "project").filter(name=name)
        if (vm := vms.first()) is None:
            raise NotFound(f"server {name} not found")
        return vm

    def network(self) -> PrivateNetwork:
        return PrivateNetwork.objects.get(name="backend")

    def new_network(self) -> PrivateNetwork:
        subnets = (SubnetOrder("cloud", "local"),)
        return create_network(make.project(), NetworkOrder("backend", "10.0.0.0/16", subnets))

    def image(self, name: str) -> Image:
        """A disk that lies on every host, which has yet to verify and take it."""
        content = hashlib.sha256(name.encode()).digest() * (_IMAGE_BYTES // 32)
        path = self.world.place.with_name(f"image-{name}")
        path.write_bytes(content)
        image = make.image(
            name,
            url=f"file://{path}",
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=_IMAGE_BYTES,
            format="raw",
        )
        plan_copies()
        return image

    def in_a_moment(self, act: Callable[[], object], seconds: float = 0.4) -> None:
        """Another request meanwhile."""
        self.world.later(seconds, lambda: self.world.ask_and_forget(act))


Act = Callable[[Stage], object]


@dataclass(frozen=True)
class Scene:
    """`before`: what there is, made step by step, each to its end; `act`: the request, whose
    consequences take so many `seconds` at least.
    """

    name: str
    act: Act
    before: tuple[Act, ...] = ()
    plan: Plan = field(default=ROOT)
    seconds: float = 0.0


def joined(world: World) -> None:
    """Rows of a cloud whose hosts have yet to speak for the first time."""
    for name in world.machines:
        Host.objects.create(name=name, location=make.location())
    Stage(world).image("micro")
    if world.plan.routed:
        make.pool()
        make.pool("2001:db8::/56")


def _server(stage: Stage) -> object:
    return stage.server()


def _off(stage: Stage) -> object:
    return power(stage.vm(), PowerCommand.POWEROFF)


def _network(stage: Stage) -> object:
    return stage.new_network()


def _two_members(stage: Stage) -> None:
    network = stage.new_network()
    for name, host in (("web-1", "h1"), ("web-2", "h2")):
        stage.server(name, on=host, networks=(network,), public_net=NOWHERE)


def _firewall(stage: Stage) -> object:
    order = FirewallOrder("web", rules=_RULES, apply_to=[Target(server=stage.vm().pk)])
    return firewalls.create_firewall(make.project(), order)


def _floating(name: str | None) -> Act:
    def act(stage: Stage) -> object:
        order = IpOrder(IpType.IPV4, make.location())
        return create_floating_ip(make.project(), order, stage.vm(name) if name else None)

    return act


def _pressed(command: PowerCommand) -> Act:
    return lambda stage: power(stage.vm(), command)


def _created_and_deleted(stage: Stage) -> None:
    stage.server()
    stage.in_a_moment(lambda: delete_vm(stage.vm()))


def _off_and_on(stage: Stage) -> None:
    power(stage.vm(), PowerCommand.POWEROFF)
    stage.in_a_moment(lambda: power(stage.vm(), PowerCommand.POWERON), 0.05)


def _detached_and_deleted(stage: Stage) -> None:
    detach_from_network(stage.vm(), stage.network())
    stage.in_a_moment(lambda: delete_vm(stage.vm()), 0.05)


def _again(stage: Stage) -> None:
    """Deleted, and another one of the same name made at once, with what the first one had."""
    delete_vm(stage.vm())
    stage.in_a_moment(lambda: stage.server("web-2"), 0.05)


def _address_taken(stage: Stage) -> None:
    ip = stage.vm().nics.get(index=0).ipv4
    assert ip is not None
    unassign_primary_ip(ip)


def _address_given_back(stage: Stage) -> None:
    vm = stage.vm()
    assign_primary_ip(PrimaryIp.objects.get(address__ip__family=4), vm)


def _ports(*guest_ports: int) -> Act:
    forwards = [Forward("tcp", port) for port in guest_ports]
    return lambda stage: change_forwarded_ports(stage.vm(), forwards)


def _user_server(stage: Stage) -> object:
    return stage.server(public_net=PublicNet(forwarded=(SSH, Forward("tcp", 80))))


def _plugged(stage: Stage) -> object:
    """A server of a network, on a host in user mode."""
    return stage.server(networks=(stage.new_network(),), public_net=NOWHERE)


def _ended(program: str) -> Act:
    """Programs of hosts that are not ours to kill ended by themselves."""

    def act(stage: Stage) -> None:
        for process in stage.world.processes:
            if program in process.argv[0] or program in process.argv:
                stage.world.processes.end(process)

    return act


def _silent(stage: Stage) -> None:
    """QEMU answers nobody for a while, just when its guest is to be reset."""
    for machine in stage.world.machines.values():
        for qemu in machine.guests:
            qemu.fall_silent(8.0)
    power(stage.vm(), PowerCommand.RESET)


def _rebooted(name: str) -> Act:
    return lambda stage: stage.world.programs[name].reboot()


def _killed(kind: str, name: str) -> Act:
    return lambda stage: stage.world.programs[name].kill(kind)


_QEMU = "qemu-system-x86_64"

SCENES = (
    Scene("create", _server),
    Scene("create-private", _two_members),
    Scene("create-off", lambda stage: stage.server(start=False)),
    Scene("create-and-delete", _created_and_deleted),
    Scene("poweroff", _pressed(PowerCommand.POWEROFF), (_server,)),
    Scene("poweron", _pressed(PowerCommand.POWERON), (_server, _off)),
    Scene("off-and-on", _off_and_on, (_server,)),
    Scene("shutdown", _pressed(PowerCommand.SHUTDOWN), (_server,)),
    Scene("reboot", _pressed(PowerCommand.REBOOT), (_server,)),
    Scene("reset", _pressed(PowerCommand.RESET), (_server,)),
    Scene("delete", lambda stage: delete_vm(stage.vm()), (_server,)),
    Scene("delete-off", lambda stage: delete_vm(stage.vm()), (_server, _off)),
    Scene("delete-and-create", _again, (_server,)),
    Scene("take-address", _address_taken, (_server, _off)),
    Scene("give-address", _address_given_back, (_server, _off, _address_taken)),
    Scene("assign-floating", _floating("web-1"), (_server,)),
    Scene(
        "move-floating",
        lambda stage: assign_floating_ip(FloatingIp.objects.get(), stage.vm("web-2")),
        (
            lambda stage: stage.server(on="h1"),
            lambda stage: stage.server("web-2", on="h2"),
            _floating("web-1"),
        ),
    ),
    Scene(
        "unassign-floating",
        lambda stage: unassign_floating_ip(FloatingIp.objects.get()),
        (_server, _floating("web-1")),
    ),
    Scene("apply-firewall", _firewall, (_server,)),
    Scene(
        "change-firewall",
        lambda stage: firewalls.set_rules(Firewall.objects.get(), []),
        (_server, _firewall),
    ),
    Scene(
        "remove-firewall",
        lambda stage: firewalls.remove_firewall(
            Firewall.objects.get(), [Target(server=stage.vm().pk)]
        ),
        (_server, _firewall),
    ),
    Scene(
        "attach",
        lambda stage: attach_to_network(stage.vm(), stage.network()),
        (_server, _network),
    ),
    Scene(
        "detach", lambda stage: detach_from_network(stage.vm(), stage.network()), (_two_members,)
    ),
    Scene("detach-and-delete", _detached_and_deleted, (_two_members,)),
    Scene(
        "change-aliases",
        lambda stage: change_alias_ips(stage.vm(), stage.network(), ["10.0.0.99"]),
        (_two_members,),
    ),
    Scene(
        "change-network",
        lambda stage: add_route(stage.network(), RouteOrder("192.168.0.0/16", "10.0.0.2")),
        (_two_members,),
    ),
    Scene(
        "switch-egress-on",
        lambda stage: update_network(stage.network(), egress=True),
        (_two_members,),
    ),
    Scene("delete-network", lambda stage: delete_network(stage.network()), (_two_members,)),
    Scene("delete-member", lambda stage: delete_vm(stage.vm()), (_two_members,)),
    Scene("fetch-image", lambda stage: stage.image("debian"), seconds=6.0),
    Scene("restart-agent", _killed("agent", "h1"), (_server,), seconds=3.0),
    Scene("restart-monitor", _killed("monitor", "h1"), (_two_members,), seconds=3.0),
    Scene("reboot-host", _rebooted("h1"), (lambda stage: stage.server(on="h1"),)),
    Scene("reboot-member", _rebooted("h1"), (_two_members,)),
    Scene("qemu-ends", _ended(_QEMU), (_server,), seconds=3.0),
    Scene("qemu-is-silent", _silent, (_server,)),
    Scene("gateway-ends", _ended("tail"), (_two_members,), seconds=3.0),
    Scene("user-create", _user_server, plan=USER),
    Scene("user-create-private", _plugged, plan=USER),
    Scene("user-poweroff", _pressed(PowerCommand.POWEROFF), (_user_server,), USER),
    Scene("user-poweron", _pressed(PowerCommand.POWERON), (_user_server, _off), USER),
    Scene("user-shutdown", _pressed(PowerCommand.SHUTDOWN), (_user_server,), USER),
    Scene("user-reset", _pressed(PowerCommand.RESET), (_user_server,), USER),
    Scene("user-delete", lambda stage: delete_vm(stage.vm()), (_user_server,), USER),
    Scene("user-ports", _ports(22, 443), (_user_server,), USER),
    Scene("user-no-ports", _ports(), (_user_server,), USER),
    Scene(
        "user-attach",
        lambda stage: attach_to_network(stage.vm(), stage.network()),
        (_user_server, _network),
        USER,
    ),
    Scene(
        "user-detach",
        lambda stage: detach_from_network(stage.vm(), stage.network()),
        (
            _user_server,
            _network,
            lambda stage: attach_to_network(stage.vm(), stage.network()),
        ),
        USER,
    ),
    Scene("user-delete-member", lambda stage: delete_vm(stage.vm()), (_plugged,), USER),
    Scene("user-reboot-host", _rebooted("u1"), (_user_server,), USER),
    Scene("user-switch-ends", _ended("vde_switch"), (_plugged,), USER, 3.0),
    Scene("user-outlet-ends", _ended("networks.host.outside"), (_user_server,), USER, 3.0),
    Scene("user-restart-monitor", _killed("monitor", "u1"), (_plugged,), USER, 3.0),
)
BY_NAME = {scene.name: scene for scene in SCENES}
