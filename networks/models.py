"""Networks, and the ledger of public addresses.

A pool (`Network`) lends addresses one by one; each lending is an `Address`, and it is lent to a
`PrimaryIp` or a `FloatingIp` of a project. Which server has those is known to `vms` alone. Here
stand two traces of it, without foreign keys, so that they outlive everything: a `Withdrawal` until
a host proved that it let go of an address, and a `Tenure` for ever.
"""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.indexes import OpClass
from django.db import models
from django.db.models import CheckConstraint, F, Q, UniqueConstraint
from django.utils import timezone
from netfields import CidrAddressField, InetAddressField

from cloud.models import Location, Project
from cloud.snapshots import Policy, audited
from networks.addressing import unit_text
from networks.firewalls.models import Firewall, FirewallSelector
from networks.private.models import PrivateNetwork, Replica, Route, Subnet
from networks.querysets import (
    AddressQuerySet,
    FloatingIpQuerySet,
    NetworkQuerySet,
    PrimaryIpQuerySet,
    TenureQuerySet,
)

__all__ = [
    "Address",
    "Firewall",
    "FirewallSelector",
    "FloatingIp",
    "IpType",
    "Network",
    "PrimaryIp",
    "PrivateNetwork",
    "PublicIp",
    "Replica",
    "Route",
    "Subnet",
    "Tenure",
    "Withdrawal",
]


@audited(Policy("pool", ("add", "update", "delete")))
class Network(models.Model):
    """A range of addresses. A public one is a pool of the operator, lent address by address.

    IPv6 is lent in networks of /64. A routed pool lies behind the hosts; a bridged one is the
    network that the hosts' uplinks are in, with its own gateway and perhaps its own DHCP, which
    then gives the addresses.
    """

    class Kind(models.TextChoices):
        PUBLIC = "public", "Public"

    class Mode(models.TextChoices):
        ROUTED = "routed", "Routed"
        BRIDGED = "bridged", "Bridged"

    name = models.CharField(max_length=128, unique=True)
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.PUBLIC)
    mode = models.CharField(max_length=16, choices=Mode, default=Mode.ROUTED)
    owner = models.ForeignKey(
        Project,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="pools",
        help_text="None: every project borrows from it.",
    )
    location = models.ForeignKey(Location, models.PROTECT, related_name="networks")
    ip_range = CidrAddressField()
    gateway = InetAddressField(
        store_prefix_length=False, null=True, blank=True, help_text="Of a bridged pool."
    )
    dhcp = models.BooleanField(
        default=False, help_text="Guests get addresses from the DHCP of the outside network."
    )
    excluded = models.JSONField(
        default=list, blank=True, help_text="Addresses and networks of the range never lent."
    )
    dns = models.JSONField(default=list, blank=True, help_text="Resolvers handed to guests.")
    created = models.DateTimeField(default=timezone.now, editable=False)

    objects = NetworkQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            ExclusionConstraint(
                name="public_ranges_never_overlap",
                expressions=[(OpClass("ip_range", name="inet_ops"), "&&")],
                condition=Q(kind="public"),
            ),
            CheckConstraint(
                name="network_gateway_where_bridged",
                condition=Q(mode="routed", gateway=None, dhcp=False)
                | Q(mode="bridged") & (Q(dhcp=True) | Q(gateway__isnull=False)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.ip_range})"


class Address(models.Model):
    """One lending of one address, or of one IPv6 /64, named by its first address.

    Legal transitions: held → quarantine → released, quarantine → held while its server still has
    it, held → released if no host ever had it. Released means: the host proved that nothing uses
    the address any more; only then is it lent again. Ended lendings stay.
    """

    class State(models.TextChoices):
        HELD = "held", "Held"
        QUARANTINE = "quarantine", "In quarantine"
        RELEASED = "released", "Released"

    network = models.ForeignKey(Network, models.PROTECT, related_name="addresses")
    project = models.ForeignKey(Project, models.SET_NULL, null=True, related_name="addresses")
    ip = InetAddressField(store_prefix_length=False)
    state = models.CharField(max_length=16, choices=State, default=State.HELD)
    held_since = models.DateTimeField(default=timezone.now)
    released_at = models.DateTimeField(null=True, blank=True)

    objects = AddressQuerySet.as_manager()

    class Meta:
        ordering = ["ip", "-held_since"]
        verbose_name_plural = "addresses"
        constraints = [
            UniqueConstraint(
                fields=["ip"], condition=Q(released_at=None), name="address_held_once"
            ),
            CheckConstraint(
                name="address_released_after_held",
                condition=Q(released_at=None) | Q(released_at__gte=F("held_since")),
            ),
            CheckConstraint(
                name="address_released_has_time",
                condition=Q(state__in=["held", "quarantine"], released_at=None)
                | Q(state="released", released_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return unit_text(self.ip)


class Withdrawal(models.Model):
    """A host may still have the address: its server was told to let go under `generation`.

    Written when an address leaves a server, deleted when its host proved that generation.
    """

    address = models.ForeignKey(Address, models.CASCADE, related_name="withdrawals")
    server_id = models.PositiveBigIntegerField(db_index=True)
    generation = models.PositiveBigIntegerField()
    holding = models.PositiveBigIntegerField(
        null=True, db_index=True, help_text="It is reserved as long as there is this row."
    )

    def __str__(self) -> str:
        return f"{self.address} from server #{self.server_id}"


class IpType(models.TextChoices):
    IPV4 = "ipv4", "IPv4"
    IPV6 = "ipv6", "IPv6"


class PublicIp(models.Model):
    """What primary and floating IPs have in common: a lent address under a project's name."""

    # The API's name for resources of this class.
    resource = ""

    project = models.ForeignKey(Project, models.PROTECT, related_name="%(class)ss")
    location = models.ForeignKey(Location, models.PROTECT, related_name="%(class)ss")
    name = models.CharField(max_length=128)
    type = models.CharField(max_length=8, choices=IpType)
    address = models.OneToOneField(Address, models.PROTECT, related_name="%(class)s")
    dns_ptr = models.JSONField(default=dict, blank=True, help_text="Reverse names by address.")
    labels = models.JSONField(default=dict, blank=True)
    delete_protection = models.BooleanField(default=False)
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name

    @property
    def nic(self) -> Any:
        """The network interface that has it, or None; reads related rows."""
        raise NotImplementedError

    @property
    def server_id(self) -> int | None:
        nic = self.nic
        return nic.vm_id if nic else None

    def forget_nic(self) -> None:
        """It was taken from its network interface: what was read of that is true no more."""
        for relation in self._meta.related_objects:
            if relation.is_cached(self):
                relation.delete_cached_value(self)


def _policy(kind: str) -> Policy:
    verbs = ("create", "update", "change_protection", "change_dns_ptr", "assign", "unassign")
    return Policy(kind, (*verbs, "delete"), derived=("server_id",))


@audited(_policy("primary_ip"))
class PrimaryIp(PublicIp):
    """The own public address of a server, or one kept for it."""

    resource = "primary_ip"

    auto_delete = models.BooleanField(default=False, help_text="It goes with its server.")

    objects = PrimaryIpQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        verbose_name = "primary IP"
        constraints = [
            UniqueConstraint(fields=["project", "name"], name="primary_ip_name_unique"),
            CheckConstraint(
                name="primary_ip_protected_is_kept",
                condition=Q(delete_protection=False) | Q(auto_delete=False),
            ),
        ]

    @property
    def nic(self) -> Any:
        return getattr(self, "nic4" if self.type == IpType.IPV4 else "nic6", None)


@audited(_policy("floating_ip"))
class FloatingIp(PublicIp):
    """A public address that moves from server to server."""

    resource = "floating_ip"

    description = models.CharField(max_length=255, blank=True)

    objects = FloatingIpQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        verbose_name = "floating IP"
        constraints = [
            UniqueConstraint(fields=["project", "name"], name="floating_ip_name_unique"),
        ]

    @property
    def nic(self) -> Any:
        assignment = getattr(self, "assignment", None)
        return assignment.nic if assignment else None


class Tenure(models.Model):
    """A span of time in which an address was with one holder, in names and numbers of that time.

    It outlives all of them: nothing but the address is a foreign key.
    """

    address = models.ForeignKey(Address, models.PROTECT, related_name="tenures")
    since = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True, help_text="None: it lasts.")
    project_id = models.PositiveBigIntegerField(null=True)
    project_name = models.CharField(max_length=128, blank=True)
    holder_type = models.CharField(max_length=16, help_text="primary_ip or floating_ip.")
    holder_id = models.PositiveBigIntegerField(null=True)
    holder_name = models.CharField(max_length=128, blank=True)
    server_id = models.PositiveBigIntegerField(null=True, help_text="None: no server had it.")
    server_name = models.CharField(max_length=128, blank=True)
    host_name = models.CharField(max_length=32, blank=True)

    objects = TenureQuerySet.as_manager()

    class Meta:
        ordering = ["since", "id"]
        constraints = [
            UniqueConstraint(
                fields=["address"], condition=Q(until=None), name="tenure_one_at_a_time"
            ),
            CheckConstraint(
                name="tenure_ends_after_its_start",
                condition=Q(until=None) | Q(until__gte=F("since")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.holder_name or self.holder_type} of {self.project_name}"
