"""What must hold when faults have ended and some time has passed: what is wrong, in words.

What a host should have is told from the inventory alone, never from what the host's own documents
say: a document that was left over is a leak, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cloud.models import Action, Host
from networks.host import addresses, plan
from networks.models import Address, Replica, Withdrawal
from networks.spec import NicSpec
from tests.simulation.guests import Guest
from tests.simulation.kernel import UPLINK
from tests.simulation.machine import Machine
from tests.simulation.world import World
from vms import dispatch
from vms.host.paths import HostPaths, number_of, tap_name
from vms.models import VM, ForwardedPort, ImageCopy, Nic
from vms.spec import PowerGoal

_OURS = 28  # networks.host.routes.PROTOCOL


def violations(world: World, *, thorough: bool = True) -> list[str]:
    """Complaints of the world first, as they stay; then the inventory; then each host.

    Not `thorough`: while something is under way, nothing else is looked at.
    """
    _watch_addresses(world)
    if world.complaints:
        return list(world.complaints)
    if not thorough and (
        Action.objects.open().exists() or VM.objects.filter(converged=False).exists()
    ):
        return ["something is under way"]
    found = list(_of_inventory())
    if found:
        return found
    for machine in world.machines.values():
        found += _of_machine(machine, _Wanted.of(machine))
    return found


def _watch_addresses(world: World) -> None:
    """At no moment is an address one server's in the inventory, and led to another one."""
    rows = Nic.objects.filter(vm__deleting=False, ipv4__isnull=False).order_by()
    lent = {f"{ip}/32": pk for pk, ip in rows.values_list("vm", "ipv4__address__ip")}
    taps = {tap: pk for pk in set(lent.values()) for tap in [tap_name(pk, 0)]}
    for machine in world.machines.values():
        names = {one.index: one.name for one in machine.kernel.links.values()}
        for way in machine.kernel.ways.values():
            name = names.get(way.oif or 0, "")
            if way.dst in lent and name.startswith("cu") and taps.get(name) != lent[way.dst]:
                world.complain(f"{way.dst} is lent to server {lent[way.dst]} and led to {name}")


def _of_inventory() -> Iterator[str]:
    for vm in VM.objects.select_related("host"):
        wanted = vm.goal if vm.goal == PowerGoal.RUNNING else "off"
        if vm.deleting:
            yield f"server {vm.pk} is still being deleted"
        elif not vm.converged or vm.observed_generation != vm.generation:
            yield f"server {vm.pk} is not as it should be: {vm.failure_code} {vm.failure_message}"
        elif vm.status != wanted:
            yield f"server {vm.pk} is said to be {vm.status}, and should be {wanted}"
    for action in Action.objects.open():
        yield f"action {action.command} {action.pk} is open"
    for action in Action.objects.filter(status="error", error_code=""):
        yield f"action {action.command} {action.pk} failed without a code"
    for replica in Replica.objects.filter(converged=False):
        where = f"network {replica.network_id} on host {replica.host_id}"
        yield f"{where} is not as it should be: {replica.failure_message}"
    for address in Address.objects.filter(state=Address.State.QUARANTINE):
        yield f"address {address} is in quarantine"
    for address in Address.objects.filter(
        state=Address.State.HELD, primaryip=None, floatingip=None
    ):
        yield f"address {address} is held by nothing"
    for withdrawal in Withdrawal.objects.all():
        yield f"address {withdrawal.address_id} is still withdrawn from {withdrawal.server_id}"
    for port in ForwardedPort.objects.exclude(withdrawn=None):
        yield f"port {port} is still withdrawn"
    for copy in ImageCopy.objects.filter(ready=False, image__deleted_at=None):
        yield f"image {copy.image_id} is not on host {copy.host_id}"
    for host in Host.objects.with_use():
        vms = VM.objects.filter(host=host)
        if host.used_memory_mb != sum(vms.values_list("memory_mb", flat=True)):
            yield f"host {host} promised memory to nobody"


@dataclass(frozen=True)
class _Wanted:
    """What a host should have. `running` with the NICs that are led to each."""

    vms: dict[int, VM]
    running: dict[int, tuple[NicSpec, ...]]
    networks: dict[int, bool]
    macs: frozenset[str]
    images: frozenset[str]

    @classmethod
    def of(cls, machine: Machine) -> _Wanted:
        host = Host.objects.get(name=machine.name)
        vms = {vm.pk: vm for vm in VM.objects.for_spec().filter(host=host)}
        replicas = Replica.objects.filter(host=host).select_related("network")
        copies = ImageCopy.objects.filter(host=host, ready=True).select_related("image")
        networks = {one.network_id: one.network.egress for one in replicas if one.wanted}
        return cls(
            vms=vms,
            running={
                pk: dispatch.spec_of(vm).nics
                for pk, vm in vms.items()
                if vm.goal == PowerGoal.RUNNING
            },
            networks=networks,
            macs=frozenset(Nic.objects.filter(network__in=networks).values_list("mac", flat=True)),
            images=frozenset(copy.image.sha256 for copy in copies),
        )

    @property
    def nics(self) -> list[tuple[str, NicSpec]]:
        """By interface."""
        return [(tap_name(pk, nic.index), nic) for pk, nics in self.running.items() for nic in nics]


def _of_machine(machine: Machine, wanted: _Wanted) -> Iterator[str]:
    yield from _of_guests(machine, wanted)
    yield from _differences(machine, "process", _processes(machine, wanted), _programs(machine))
    yield from _differences(machine, "file", *_files(machine, wanted))
    if machine.routes:
        yield from _of_kernel(machine, wanted)
    else:
        yield from _of_plugs(machine, wanted)


def _differences(
    machine: Machine, kind: str, wanted: Iterable[str], seen: Iterable[str]
) -> Iterator[str]:
    wanted, seen = sorted(wanted), sorted(seen)
    for one in sorted({*wanted, *seen}):
        surplus = seen.count(one) - wanted.count(one)
        if surplus > 0:
            yield f"{machine.name}: {kind} {one} is left over"
        if surplus < 0:
            yield f"{machine.name}: {kind} {one} is missing"


def _of_guests(machine: Machine, wanted: _Wanted) -> Iterator[str]:
    uuids = [str(wanted.vms[pk].uuid) for pk in wanted.running]
    yield from _differences(machine, "guest", uuids, [one.uuid for one in machine.guests])
    specs = {str(wanted.vms[pk].uuid): nics for pk, nics in wanted.running.items()}
    for qemu in machine.guests:
        if qemu.guest is not Guest.UP:
            yield f"{machine.name}: the guest {qemu.uuid} is {qemu.guest.value}"
        cards = {f"nic{nic.index}-{nic.nic_id}" for nic in specs.get(qemu.uuid, ())}
        seen = {one for one in qemu.devices if one.startswith("nic")}
        yield from _differences(machine, "card", cards, seen)


def _processes(machine: Machine, wanted: _Wanted) -> list[str]:
    """As `_programs` names them; DHCP servers without anybody to answer may be there or not."""
    if machine.routes:
        return [f"tail {pk}" for pk in wanted.networks]
    outlets = [
        f"outlet {pk}-{nic.index}"
        for pk, nics in wanted.running.items()
        for nic in nics
        if nic.mode == "user"
    ]
    return [*outlets, *(f"vde_switch {pk}" for pk in wanted.networks)]


def _programs(machine: Machine) -> list[str]:
    names, servers = [], set()
    for process in machine.processes:
        program = Path(process.argv[0]).name
        if process.qemu is not None:
            continue
        if program == "tail":
            names.append(f"tail {Path(process.argv[-1]).parent.name}")
        elif program == "vde_switch":
            place = process.argv[process.argv.index("--sock") + 1]
            names.append(f"vde_switch {Path(place).parent.name}")
        elif "networks.host.outside" in process.argv:
            names.append(f"outlet {Path(process.argv[-1]).name}")
        elif program == "dnsmasq" and process.argv[1] not in servers:
            servers.add(process.argv[1])
        else:
            names.append(" ".join(process.argv[:4]))
    return names


def _of_kernel(machine: Machine, wanted: _Wanted) -> Iterator[str]:
    kernel = machine.kernel
    names = {pk: plan.names(pk) for pk in wanted.networks}
    links = {UPLINK, *(tap for tap, _ in wanted.nics)}
    for pk, egress in wanted.networks.items():
        links |= {names[pk].bridge, names[pk].tunnel, names[pk].gateway}
        links |= {names[pk].exit} if egress else set()
    tunnel = {one.name for one in kernel.links.values() if one.kind == "wireguard"}
    links |= tunnel if wanted.networks else set()
    seen = {one.name for one in kernel.links.values() if one.namespace == 0}
    yield from _differences(machine, "interface", links, seen)

    public = [(tap, nic) for tap, nic in wanted.nics if nic.mode == "public_routed"]
    led = [(tap, net) for tap, nic in public for net in addresses.led_to(nic)]
    taps = {one.index: one.name for one in kernel.links.values() if one.kind == "tun"}
    yield from _differences(
        machine,
        "route",
        (f"{net} to {tap}" for tap, net in led),
        (
            f"{way.dst} to {taps[way.oif or 0]}"
            for (namespace, _), way in kernel.ways.items()
            if namespace == 0 and way.proto == _OURS and way.oif in taps
        ),
    )
    yield from _differences(
        machine,
        "answer for",
        (str(addresses.spoken_for(net)) for _, net in led),
        (address for _, address in kernel.proxies),
    )
    yield from _of_rules(machine, wanted)
    known = wanted.macs | {plan.gateway_mac(pk) for pk in wanted.networks} | {plan.EVERYBODY}
    for mac in sorted({mac for _, mac, _, _ in kernel.fdb} - known):
        yield f"{machine.name}: an entry for {mac} is left over"


def _of_rules(machine: Machine, wanted: _Wanted) -> Iterator[str]:
    tables = machine.kernel.tables
    yield from _differences(
        machine,
        "table of rules",
        (f"cumulet_{tap}" for tap, _ in wanted.nics),
        (name for namespace, family, name in tables if (namespace, family) == (0, "netdev")),
    )
    host = tables.get((0, "inet", "cumulet"))
    filtered = [tap for tap, nic in wanted.nics if nic.mode != "private"]
    chains = {f"{way}_{tap}" for tap in filtered for way in ("to", "from")}
    seen = {one for one in host.chains if "_cu" in one} if host else set()
    yield from _differences(machine, "chain", chains, seen)
    if not wanted.networks and (0, "inet", "cumulet_private") in tables:
        yield f"{machine.name}: rules of the mesh are left over"


def _of_plugs(machine: Machine, wanted: _Wanted) -> Iterator[str]:
    paths = HostPaths(machine.config.state_dir, machine.config.run_dir)
    cables = [
        str(paths.switch(nic.network_id))
        for nics in wanted.running.values()
        for nic in nics
        if nic.network_id is not None
    ]
    seen = [cable for qemu in machine.guests for cable in qemu.cables]
    yield from _differences(machine, "cable", cables, seen)
    ports = {
        f"{one.protocol} {one.port}"
        for nics in wanted.running.values()
        for nic in nics
        for one in nic.forwards
    }
    open_ports = {
        f"{protocol} {port}" for process in machine.processes for protocol, port in process.ports
    }
    yield from _differences(machine, "port", ports, open_ports)


def _files(machine: Machine, wanted: _Wanted) -> tuple[set[str], set[str]]:
    """Wanted and seen; those that may be there or not are in both."""
    state, run = machine.config.state_dir, machine.config.run_dir
    seen = {f"state/{one}" for one in _listing(state)} | {f"run/{one}" for one in _listing(run)}
    needed = {f"state/images/{sha}" for sha in wanted.images}
    for pk in wanted.vms:
        names = ("spec.json", "state.json", "seed.iso", "disk-0.qcow2")
        needed |= {f"state/vms/{pk}/{name}" for name in names}
    needed |= {f"state/networks/{pk}.json" for pk in wanted.networks}
    return needed, {one for one in seen if one in needed or not _may_be(one, wanted)}


def _listing(place: Path) -> list[str]:
    return [str(one.relative_to(place)) for one in place.rglob("*") if not one.is_dir()]


def _may_be(path: str, wanted: _Wanted) -> bool:
    """What is the host's own, or of something that it should have."""
    where, *parts = Path(path).parts
    first, name = parts[0], parts[-1]
    if where == "state":
        match first:
            case "identity" | "accelerator.json" | "tunnel.key" | "tunnel.pub" | "log":
                return True
            case "tombstones":
                uuids = {str(vm.uuid) for vm in wanted.vms.values()}
                return not name.startswith(".") and name.removesuffix(".json") not in uuids
            case "vms":
                return int(parts[1]) in wanted.vms and name in ("qemu.log", "seed.sha256")
            case "network-fences":
                return number_of(name.removesuffix(".json")) not in (None, *wanted.networks)
        return False
    match first:
        case "monitor" | "inventory-seq":
            return True
        case "dhcp":
            return len(parts) == 2 or name in {tap for tap, _ in wanted.nics}
        case "networks":
            return int(parts[1]) in wanted.networks
        case "outlets":
            return int(parts[1].partition("-")[0]) in wanted.running
        case "locks":
            number, _, kind = name.partition(".")
            if kind == "kick":
                return False
            return kind not in ("vm", "documents") or int(number) in wanted.vms
    return first.isdigit() and int(first) in wanted.vms
