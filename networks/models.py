"""Networks and the ledger of addresses."""

from __future__ import annotations

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.indexes import OpClass
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint
from django.utils import timezone
from netfields import CidrAddressField, InetAddressField

from cloud.models import Location, Project
from networks.firewalls.models import Firewall, FirewallSelector
from networks.querysets import AddressQuerySet, NetworkQuerySet

__all__ = ["Address", "Firewall", "FirewallSelector", "Network"]


class Network(models.Model):
    """A range of addresses. A public one is a pool of the operator, lent address by address."""

    class Kind(models.TextChoices):
        PUBLIC = "public", "Public, routed"

    name = models.CharField(max_length=128, unique=True)
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.PUBLIC)
    location = models.ForeignKey(Location, models.PROTECT, related_name="networks")
    ip_range = CidrAddressField()
    excluded = models.JSONField(
        default=list, blank=True, help_text="Addresses of the range that are never lent."
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
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.ip_range})"


class Address(models.Model):
    """One lending of one address; ended lendings stay, so the ledger answers who held it when.

    `released_at` is set only after the host proved that nothing uses the address any more.
    """

    network = models.ForeignKey(Network, models.PROTECT, related_name="addresses")
    project = models.ForeignKey(Project, models.SET_NULL, null=True, related_name="addresses")
    ip = InetAddressField(store_prefix_length=False)
    holder = models.CharField(max_length=160, help_text="Who has it, in words that outlive them.")
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
                condition=Q(released_at=None) | Q(released_at__gte=models.F("held_since")),
            ),
        ]

    def __str__(self) -> str:
        return str(self.ip)
