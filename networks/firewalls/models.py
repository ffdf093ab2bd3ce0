"""Firewalls and the label selectors that they follow.

Which servers they guard is a fact about servers, so those rows belong to `vms`.
"""

from __future__ import annotations

from django.db import models
from django.db.models import UniqueConstraint
from django.utils import timezone

from cloud.models import Project
from cloud.snapshots import Policy, audited
from networks.firewalls.querysets import FirewallQuerySet


@audited(
    Policy(
        "firewall",
        ("create", "update", "set_rules", "apply", "remove", "delete"),
        derived=("applied_to",),
    )
)
class Firewall(models.Model):
    """A list of rules, in the contract's form (`networks.firewalls.rules.Rule`)."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="firewalls")
    name = models.CharField(max_length=128)
    labels = models.JSONField(default=dict, blank=True)
    rules = models.JSONField(default=list, blank=True)
    created = models.DateTimeField(default=timezone.now, editable=False)

    objects = FirewallQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [UniqueConstraint(fields=["project", "name"], name="firewall_name_unique")]

    def __str__(self) -> str:
        return self.name

    @property
    def applied_to(self) -> list[str]:
        """The servers, by number, and the label selectors that it was applied to."""
        servers = self.uses.filter(selector=None).order_by("vm").values_list("vm", flat=True)
        selectors = self.selectors.order_by("selector").values_list("selector", flat=True)
        return [*(f"server {pk}" for pk in servers), *selectors]


class FirewallSelector(models.Model):
    """A firewall guards every server of its project whose labels meet the selector."""

    firewall = models.ForeignKey(Firewall, models.CASCADE, related_name="selectors")
    selector = models.CharField(max_length=1024)

    class Meta:
        ordering = ["id"]
        constraints = [
            UniqueConstraint(fields=["firewall", "selector"], name="firewall_selector_unique")
        ]

    def __str__(self) -> str:
        return self.selector
