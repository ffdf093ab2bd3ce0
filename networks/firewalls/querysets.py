"""Reads of firewalls, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from cloud.querysets import LabelledQuerySet

if TYPE_CHECKING:
    from networks.firewalls.models import Firewall  # noqa: F401  (names in base classes)


class FirewallQuerySet(LabelledQuerySet["Firewall"]):
    def with_resources(self) -> Self:
        """With what they are applied to, in a constant number of queries."""
        return self.prefetch_related("uses", "selectors__uses")
