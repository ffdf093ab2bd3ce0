"""Stories of pools and public IPs; see `tests.db.stories`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from networks import pools, public_ips
from networks.models import FloatingIp, IpType, PrimaryIp, PublicIp
from networks.pools import Pool, describe_pool, ensure_pool, remove_pool
from networks.public_ips import (
    IpOrder,
    change_dns_ptr,
    change_ip_protection,
    create_ip,
    delete_ip,
    update_ip,
)
from tests import factories as make
from tests.db.stories import running, story
from vms import floating_ips, primary_ips
from vms.actions import PowerCommand, power
from vms.floating_ips import assign_floating_ip, create_floating_ip, unassign_floating_ip
from vms.models import VM
from vms.primary_ips import (
    assign_primary_ip,
    change_server_dns_ptr,
    create_primary_ip,
    unassign_primary_ip,
)
from vms.reports import vm_report

MODULES = (floating_ips, pools, primary_ips, public_ips)
# They compute, or change nothing but for a caller that has a story.
SILENT: tuple[Callable[..., Any], ...] = (
    floating_ips.finish_moves,
    floating_ips.is_moving,
    pools.usable,
    public_ips.check_description,
    public_ips.dns_names,
    public_ips.existing,
    public_ips.locked,
    public_ips.new_ip,
    public_ips.set_dns_ptr,
)


def pool() -> Pool:
    return Pool("public", "203.0.113.0/28", make.location())


def ip(kind: type[PublicIp] = PrimaryIp) -> PublicIp:
    make.pool()
    return create_ip(kind, make.project(), IpOrder(IpType.IPV4, make.location()))


def primary() -> PrimaryIp:
    """That of a server which is off."""
    vm = running()
    power(vm, PowerCommand.POWEROFF)
    vm.refresh_from_db()
    vm_report(make.report(vm, power="off"), "host-h1")
    return PrimaryIp.objects.get()


def floating(vm: VM | None) -> FloatingIp:
    order = IpOrder(IpType.IPV4, make.location())
    return create_floating_ip(make.project(), order, vm)[0]


@story("pool.add", ensure_pool)
def _() -> None:
    ensure_pool(pool())


@story("pool.update", describe_pool)
def _() -> None:
    describe_pool(ensure_pool(pool()), name="front", excluded=["203.0.113.1"], dns=[])


@story("pool.delete", remove_pool)
def _() -> None:
    remove_pool(ensure_pool(pool()))


@story("primary_ip.create", create_primary_ip, create_ip)
def _() -> None:
    make.pool()
    create_primary_ip(make.project(), IpOrder(IpType.IPV4, make.location()))


@story("primary_ip.update", update_ip)
def _() -> None:
    update_ip(ip(), name="front")


@story("primary_ip.change_protection", change_ip_protection)
def _() -> None:
    change_ip_protection(ip(), delete=True)


@story("primary_ip.change_dns_ptr", change_server_dns_ptr)
def _() -> None:
    vm = running()
    address = str(vm.nics.get().ipv4.address.ip)
    change_server_dns_ptr(vm, address=address, name="web.example.com")


@story("primary_ip.assign", assign_primary_ip)
def _() -> None:
    mine = primary()
    vm = VM.objects.get()
    unassign_primary_ip(mine)
    vm.refresh_from_db()
    vm_report(make.report(vm, power="off"), "host-h1")
    assign_primary_ip(mine, vm)


@story("primary_ip.unassign", unassign_primary_ip)
def _() -> None:
    unassign_primary_ip(primary())


@story("primary_ip.delete", delete_ip)
def _() -> None:
    delete_ip(ip())


@story("floating_ip.create", create_floating_ip)
def _() -> None:
    make.pool()
    floating(None)


@story("floating_ip.update", update_ip)
def _() -> None:
    update_ip(ip(FloatingIp), description="front door")


@story("floating_ip.change_protection", change_ip_protection)
def _() -> None:
    change_ip_protection(ip(FloatingIp), delete=True)


@story("floating_ip.change_dns_ptr", change_dns_ptr)
def _() -> None:
    mine = ip(FloatingIp)
    change_dns_ptr(mine, address=str(mine.address.ip), name="web.example.com")


@story("floating_ip.assign", assign_floating_ip)
def _() -> None:
    vm = running()
    assign_floating_ip(floating(None), vm)


@story("floating_ip.unassign", unassign_floating_ip)
def _() -> None:
    unassign_floating_ip(floating(running()))


@story("floating_ip.delete", delete_ip)
def _() -> None:
    delete_ip(ip(FloatingIp))
