"""Which addresses a server has: rows only, in the transaction of a caller that locked the server.

Raising the generation, so that hosts hear of it, is up to the caller. Every change is written into
the history of the address, and what leaves a server is remembered until its host let go of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import ClassVar

from cloud.audit import changed, changing, created
from cloud.errors import CumuletError, ResourceUnavailable, invalid
from cloud.snapshots import snapshot
from networks.allocation import (
    ANYWHERE,
    NoFreeAddress,
    Reach,
    Wish,
    lend,
    pools_for,
    quarantine,
    reaching,
    take_share,
)
from networks.ledger import Bearer, pass_to
from networks.models import (
    FloatingIp,
    IpType,
    Network,
    PrimaryIp,
    PublicIp,
    Withdrawal,
)
from networks.public_ips import IpOrder, locked, new_ip
from vms.interfaces import PUBLIC_INDEX
from vms.models import VM, FloatingAssignment, Holding, Nic
from vms.placement import public_modes
from vms.ports import SSH, Forward, lead

# The wire contract's bound of `NicSpec.floating`.
MOST_FLOATING = 64


class PrimaryIpAssigned(CumuletError):
    """The primary IP named for a new server is another server's (HTTP 422)."""

    code: ClassVar[str] = "primary_ip_assigned"


class HeldElsewhere(CumuletError):
    """A host leads the address to another server, which a restored inventory forgot (HTTP 409)."""

    code: ClassVar[str] = "address_held_elsewhere"
    status: ClassVar[int] = 409


class VersionMismatch(CumuletError):
    """An IPv6 address was named where IPv4 belongs, or the other way round (HTTP 412)."""

    code: ClassVar[str] = "primary_ip_version_mismatch"
    status: ClassVar[int] = 412


class PrimaryIpElsewhere(CumuletError):
    """Primary IP and server are in different locations (HTTP 422)."""

    code: ClassVar[str] = "primary_ip_datacenter_mismatch"


@dataclass(frozen=True)
class PublicNet:
    """Which public addresses a new server gets: of which families, or exactly these.

    `required`: the request says so itself, so nothing else will do. `forwarded`: it shall be behind
    its host's address instead, with ports there that lead to these of its own.
    """

    ipv4: bool = True
    ipv6: bool = True
    primary4: PrimaryIp | None = None
    primary6: PrimaryIp | None = None
    required: bool = False
    forwarded: tuple[Forward, ...] | None = None

    @property
    def forwards(self) -> tuple[Forward, ...] | None:
        """Ports that it may have in place of addresses; None: only addresses will do."""
        if self.forwarded is not None or self.required or self.named or not self.ipv4:
            return self.forwarded
        return (SSH,)

    @property
    def named(self) -> list[PrimaryIp]:
        return [ip for ip in (self.primary4, self.primary6) if ip is not None]


def claim_nic(vm: VM, net: PublicNet) -> None:
    """Give a new server its public interface and addresses, or ports of its host in their place.

    IPv6 comes with it where the location has a fitting pool. Without an address there is no
    interface. Raises ResourceUnavailable, LimitExceeded, and what `claim_primary_ip` raises.
    """
    nic = Nic(vm=vm, index=PUBLIC_INDEX)
    if net.forwarded is not None or (net.forwards and not is_pooled(vm)):
        nic.behind_host = True
        nic.save()
        lead(nic, vm.host, net.forwards or ())
        created(nic, "attach")
        return
    wanted = {IpType.IPV4: net.primary4, IpType.IPV6: net.primary6}
    named = {kind: claim_primary_ip(vm, ip, kind) for kind, ip in wanted.items() if ip}
    before = {ip.pk: snapshot(ip) for ip in named.values()}
    nic.ipv4, nic.ipv6 = named.get(IpType.IPV4), named.get(IpType.IPV6)
    if net.ipv4 and not nic.ipv4:
        _claim_ipv4(nic, _modes(nic))
    modes = _modes(nic)
    if net.ipv6 and not nic.ipv6 and pools_for(_wish(vm, IpType.IPV6, modes)).exists():
        nic.ipv6 = _new_primary_ip(vm, IpType.IPV6, modes)
    if nic.mode is None:
        return
    for ip in nic.primary_ips:
        check_mode(nic, ip.address.network)
    nic.save()
    for ip in nic.primary_ips:
        pass_to(ip, bearer_of(vm))
        if ip.pk in before:
            changed(ip, before[ip.pk], "assign")
        else:
            created(ip)


def claim_primary_ip(vm: VM, ip: PrimaryIp, kind: IpType) -> PrimaryIp:
    """The primary IP, its row locked, if the server can have it.

    Raises VersionMismatch, PrimaryIpAssigned or PrimaryIpElsewhere.
    """
    ip = locked(ip)
    if ip.type != kind:
        raise VersionMismatch(f"primary IP {ip} is {ip.type}, not {kind}: name another one")
    if ip.server_id is not None:
        raise PrimaryIpAssigned(f"primary IP {ip} is assigned to server #{ip.server_id}")
    check_place(vm, ip)
    _check_unheld(vm, ip)
    return ip


def check_place(vm: VM, ip: PrimaryIp) -> None:
    if ip.location_id != vm.host.location_id:
        raise PrimaryIpElsewhere(
            f"primary IP {ip} is in location {ip.location}, the server in {vm.host.location}"
        )


def check_mode(nic: Nic, pool: Network, field: str = "public_net") -> None:
    """Raises InvalidInput if the interface cannot have addresses of this pool."""
    host = nic.vm.host
    if nic.behind_host:
        raise invalid(
            field,
            f"server {nic.vm} is behind the address of its host {host}, and reached by forwarded"
            " ports: create another server for addresses of its own",
        )
    floating = nic.floating.all() if nic.pk else ()
    pools = [*nic.pools, *(one.floating_ip.address.network for one in floating)]
    for other in pools:
        if other.mode != pool.mode:
            raise invalid(
                field,
                f"addresses of pool {pool.name} are {pool.mode}, the server has others that are"
                f" {other.mode}: an interface is either",
            )
    if pool.mode not in public_modes(host.network_mode):
        raise invalid(field, f"host {host} cannot give {pool.mode} addresses")
    if not reaching(Network.objects.filter(pk=pool.pk), host).exists():
        raise invalid(
            field,
            f"addresses of pool {pool.name} do not get to host {host}: use one of a pool that is"
            " led to it, or a server on another host",
        )


def attach_primary_ip(vm: VM, ip: PrimaryIp) -> None:
    """The server has this primary IP from now on."""
    nic = vm.nics.filter(index=PUBLIC_INDEX).first() or Nic(vm=vm, index=PUBLIC_INDEX)
    check_mode(nic, ip.address.network, "assignee_id")
    _check_unheld(vm, ip)
    if ip.type == IpType.IPV4:
        nic.ipv4 = ip
    else:
        nic.ipv6 = ip
    nic.save()
    pass_to(ip, bearer_of(vm))


def detach_primary_ip(vm: VM, ip: PrimaryIp) -> None:
    """The server has it no more; the interface stays, for its MAC."""
    Nic.objects.filter(vm=vm, ipv4=ip).update(ipv4=None)
    Nic.objects.filter(vm=vm, ipv6=ip).update(ipv6=None)
    ip.forget_nic()
    _withdraw(vm, [ip.address_id])
    pass_to(ip, None)


def attach_floating_ip(vm: VM, ip: FloatingIp) -> None:
    """The floating IP is led to the server's public interface; raises InvalidInput."""
    nic = vm.nics.filter(index=PUBLIC_INDEX).first()
    if nic is None or nic.mode is None:
        raise invalid("server", f"server {vm} has no public interface to lead the IP to")
    if nic.floating.count() >= MOST_FLOATING:
        raise invalid(
            "server", f"server {vm} has {MOST_FLOATING} floating IPs, and can have none more"
        )
    check_mode(nic, ip.address.network, "server")
    _check_unheld(vm, ip)
    FloatingAssignment.objects.create(nic=nic, floating_ip=ip)
    pass_to(ip, bearer_of(vm))


def detach_floating_ip(vm: VM, ip: FloatingIp, *, moving: bool = False) -> None:
    """The floating IP is led there no more; `moving`: it gets another server at once."""
    FloatingAssignment.objects.filter(floating_ip=ip, nic__vm=vm).delete()
    ip.forget_nic()
    _withdraw(vm, [ip.address_id])
    if not moving:
        pass_to(ip, None)


def let_go(vm: VM) -> None:
    """The server is to be deleted: floating IPs are free to move on at once.

    Primary IPs stay until the host proved that the server is gone.
    """
    for assignment in FloatingAssignment.objects.filter(nic__vm=vm):
        with changing(assignment.floating_ip, "unassign"):
            detach_floating_ip(vm, assignment.floating_ip)
    primary = [ip for nic in vm.nics.all() for ip in nic.primary_ips]
    going = [ip.address_id for ip in primary if ip.auto_delete]
    # Another host that had one before may prove that it let go: this one has it still.
    _withdraw(vm, going)
    quarantine(going)


def _check_unheld(vm: VM, ip: PublicIp) -> None:
    """Raises HeldElsewhere while a server has it of which a restored inventory knows nothing."""
    holder = Holding.objects.holder_of(str(ip.address), but=vm.pk)
    if holder is not None:
        raise HeldElsewhere(
            f"{ip.address} is still that of {holder}, as the inventory was restored from a backup:"
            " see the list of drift"
        )


def bearer_of(vm: VM) -> Bearer:
    return Bearer(server_id=vm.pk, server_name=vm.name, host_name=vm.host.name)


def reach_of(vm: VM) -> Reach:
    """Which pools the server can have more addresses of.

    Of a host that gives none it is `check_mode` that says so.
    """
    nic = vm.nics.first() or Nic(vm=vm, index=PUBLIC_INDEX)
    host = vm.host
    if nic.behind_host or (host.in_user_mode and not host.public_ranges):
        return ANYWHERE
    modes = _modes(nic)
    return Reach(modes, host) if modes else ANYWHERE


def is_pooled(vm: VM) -> bool:
    """Whether its location has any pool that lends to its project."""
    pools = Network.objects.for_project(vm.project_id)
    return pools.filter(location=vm.host.location_id).exists()


def has_interface(vm: VM) -> bool:
    return any(nic.mode for nic in vm.nics.all())


def has_public_interface(vm: VM) -> bool:
    return any(nic.mode for nic in vm.nics.all() if nic.index == PUBLIC_INDEX)


def _claim_ipv4(nic: Nic, modes: Iterable[str]) -> None:
    """An address of ours, or else a place in a network whose own DHCP gives them.

    The project's own pools come first, whichever kind they are.
    """
    pools = pools_for(_wish(nic.vm, IpType.IPV4, modes))
    preferred = pools.first()
    if preferred and preferred.dhcp:
        nic.dhcp_network = preferred
        return
    try:
        nic.ipv4 = _new_primary_ip(nic.vm, IpType.IPV4, modes)
    except ResourceUnavailable:
        nic.dhcp_network = pools.filter(dhcp=True).first()
        if nic.dhcp_network is None:
            raise


def _modes(nic: Nic) -> Collection[str]:
    """How it is connected, or else all ways in which its host could."""
    return {nic.mode} if nic.mode else public_modes(nic.vm.host.network_mode)


def _new_primary_ip(vm: VM, kind: IpType, modes: Iterable[str]) -> PrimaryIp:
    """A primary IP that goes with its server; raises LimitExceeded or ResourceUnavailable."""
    wish = _wish(vm, kind, modes)
    take_share(vm.project, PrimaryIp)
    try:
        address = lend(wish)
    except NoFreeAddress as error:
        raise ResourceUnavailable(error.message) from error
    order = IpOrder(kind, wish.location, auto_delete=True)
    return new_ip(PrimaryIp, vm.project, order, address=address)


def _wish(vm: VM, kind: IpType, modes: Iterable[str]) -> Wish:
    return Wish(vm.project, vm.host.location, kind, Reach(tuple(modes), vm.host))


def _withdraw(vm: VM, address_ids: Iterable[int]) -> None:
    """Remember that the host must prove the next generation before the address is free."""
    Withdrawal.objects.bulk_create(
        Withdrawal(address_id=pk, server_id=vm.pk, generation=vm.generation + 1)
        for pk in address_ids
    )
