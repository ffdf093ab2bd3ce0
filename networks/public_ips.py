"""Primary and floating IPs as long as no server is concerned: ordered, described, given back.

What needs a server (assigning, for example) is in `vms.primary_ips` and `vms.floating_ips`.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, ClassVar, TypeVar

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from cloud.actions import done_at_once
from cloud.audit import changing, created
from cloud.errors import CumuletError, NotFound, Protected, invalid
from cloud.labels import check_labels
from cloud.models import Action, Location, Project
from cloud.naming import check_name, names_are_unique
from networks.addressing import default_dns_ptr, unit_of
from networks.allocation import ANYWHERE, Reach, Wish, give_back, lend, take_share
from networks.ledger import pass_to
from networks.models import Address, IpType, PrimaryIp, PublicIp

IpT = TypeVar("IpT", bound=PublicIp)

DESCRIPTION_LENGTH = 255
# Reverse names that one IPv6 network may have.
MOST_NAMES = 100

# Each label ends in one way only, or a long name would be tried in all ways of cutting it.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\.?\Z){_LABEL}(?:\.{_LABEL})*\.?\Z", re.IGNORECASE)


class MustBeUnassigned(CumuletError):
    """The IP is in use by a server (HTTP 422)."""

    code: ClassVar[str] = "must_be_unassigned"


@dataclass(frozen=True)
class IpOrder:
    """What a user asked for when creating an IP; without a name it gets one.

    `auto_delete` is for primary IPs, `description` for floating ones.
    """

    type: IpType
    location: Location
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    auto_delete: bool = False
    description: str = ""


def create_ip(kind: type[IpT], project: Project, order: IpOrder, reach: Reach = ANYWHERE) -> IpT:
    """Lend an address of the location, from pools that reach so far, and give it a name.

    Raises InvalidInput, NotUnique (name), LimitExceeded or NoFreeAddress.
    """
    with transaction.atomic():
        take_share(project, kind)
        address = lend(Wish(project, order.location, order.type, reach))
        ip = new_ip(kind, project, order, address=address)
        pass_to(ip, None)
        created(ip)
    return ip


def new_ip(kind: type[IpT], project: Project, order: IpOrder, *, address: Address) -> IpT:
    """Write the row of an IP whose address is lent; the caller records it.

    Raises InvalidInput or NotUnique.
    """
    # The number of the lending is as unique as the IP's own, and known already.
    name = f"{kind.resource}-{address.pk}" if order.name is None else check_name(order.name)
    facts: dict[str, Any] = {}
    if kind is PrimaryIp:
        facts["auto_delete"] = order.auto_delete
    else:
        facts["description"] = check_description(order.description)
    with _names_are_unique(kind, name), transaction.atomic():
        return kind._default_manager.create(
            project=project,
            location=order.location,
            type=order.type,
            name=name,
            labels=check_labels(order.labels),
            address=address,
            **facts,
        )


def update_ip(ip: IpT, **changes: Any) -> IpT:
    """Change name, labels, description (floating) or auto_delete (primary).

    Raises InvalidInput, NotUnique or NotFound.
    """
    checks = {"name": check_name, "labels": check_labels, "description": check_description}
    with _names_are_unique(type(ip), changes.get("name", ip.name)), transaction.atomic():
        ip = locked(ip)
        if changes.get("auto_delete") and ip.delete_protection:
            raise invalid("auto_delete", f"{ip} is protected from deletion: remove the protection")
        with changing(ip):
            for key, value in changes.items():
                setattr(ip, key, checks[key](value) if key in checks else value)
            ip.save(update_fields=list(changes))
    return ip


def delete_ip(ip: PublicIp) -> None:
    """Give the address back; it is lent again once no host has it any more.

    Raises Protected, MustBeUnassigned or NotFound.
    """
    with transaction.atomic():
        ip = locked(ip)
        if ip.delete_protection:
            raise Protected(f"{ip} is protected from deletion: remove the protection")
        if ip.server_id is not None:
            raise MustBeUnassigned(f"{ip} is assigned to server #{ip.server_id}: unassign it first")
        with changing(ip, "delete"):
            ip.delete()
        give_back(ip.address, timezone.now())


def locked(ip: IpT) -> IpT:
    """The IP as it is now, its row locked until the transaction ends; raises NotFound."""
    rows = type(ip)._default_manager.select_for_update(of=("self",))
    return existing(ip, rows.select_related("address", "project", "location"))


def existing(ip: IpT, rows: QuerySet[IpT]) -> IpT:
    """The row of this IP among `rows`; raises NotFound if it was given back meanwhile."""
    found = rows.filter(pk=ip.pk).first()
    if found is None:
        raise NotFound(f"{ip._meta.verbose_name} with ID '{ip.pk}' not found")
    return found


def change_ip_protection(ip: PublicIp, *, delete: bool) -> Action:
    """Switch protection on or off, at once. Raises InvalidInput if the IP goes with its server."""
    with transaction.atomic():
        ip = locked(ip)
        if delete and getattr(ip, "auto_delete", False):
            raise invalid("delete", f"{ip} is deleted with its server: switch auto_delete off")
        with changing(ip, "change_protection") as change:
            ip.delete_protection = delete
            ip.save(update_fields=["delete_protection"])
            change.action = done_at_once(ip.project, "change_protection", (ip.resource, ip.pk))
        return change.action


def change_dns_ptr(ip: PublicIp, *, address: str, name: str | None) -> Action:
    """Name an address of the IP in reverse; None: the default for IPv4, no name for IPv6.

    Raises InvalidInput.
    """
    with transaction.atomic():
        ip = locked(ip)
        with changing(ip, "change_dns_ptr") as change:
            set_dns_ptr(ip, address, name)
            change.action = done_at_once(ip.project, "change_dns_ptr", (ip.resource, ip.pk))
        return change.action


def set_dns_ptr(ip: PublicIp, address: str, name: str | None) -> None:
    """Like `change_dns_ptr`, of a row that is locked; the caller records it."""
    key = _own_address(ip, address)
    if name is None:
        ip.dns_ptr.pop(key, None)
    else:
        if not _NAME.match(name):
            raise invalid("dns_ptr", f"{name!r} is not the name of a host")
        ip.dns_ptr[key] = name
    if len(ip.dns_ptr) > MOST_NAMES:
        raise invalid("dns_ptr", f"{ip} has {MOST_NAMES} names already: remove some")
    ip.save(update_fields=["dns_ptr"])


def dns_names(ip: PublicIp) -> list[dict[str, str]]:
    """The reverse names: exactly one for IPv4, any number for IPv6."""
    if ip.type == IpType.IPV4:
        key = str(ip.address.ip)
        return [{"ip": key, "dns_ptr": ip.dns_ptr.get(key) or default_dns_ptr(key)}]
    pairs = sorted(ip.dns_ptr.items(), key=lambda pair: int(ip_address(pair[0])))
    return [{"ip": key, "dns_ptr": name} for key, name in pairs]


def check_description(text: str) -> str:
    if len(text) > DESCRIPTION_LENGTH:
        raise invalid("description", f"must have at most {DESCRIPTION_LENGTH} characters")
    return text


def _names_are_unique(kind: type[PublicIp], name: str) -> AbstractContextManager[None]:
    what = str(kind._meta.verbose_name)
    return names_are_unique(f"{kind.resource}_name_unique", what, name)


def _own_address(ip: PublicIp, text: str) -> str:
    """The address in its usual form, if it is one of the IP's."""
    try:
        address = ip_address(text)
    except ValueError as error:
        raise invalid("ip", str(error)) from error
    if str(unit_of(address)) != str(ip.address.ip):
        raise invalid("ip", f"{address} is not an address of {ip}, which has {ip.address}")
    return str(address)
