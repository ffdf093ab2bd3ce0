"""What hosts hold and the inventory does not know, or knows differently, after it was set back.

The model belongs to `vms.models`. As long as there is a row, nothing of it is lent to anybody else;
`vms.restored` writes them.
"""

from __future__ import annotations

from typing import Self

from django.db import models
from django.utils import timezone


class HoldingQuerySet(models.QuerySet["Holding"]):
    def ports_of(self, host_id: int, protocol: str) -> set[int]:
        """Ports of the host that lead to such servers."""
        rows = self.filter(host=host_id).values_list("ports", flat=True)
        named = (port.partition("/") for ports in rows for port in ports)
        return {int(number) for kind, _, number in named if kind == protocol}

    def in_network(self, network_id: int) -> Self:
        """Such servers in a private network."""
        return self.filter(private__contains=[{"network_id": network_id}])

    def private_in(self, network_id: int) -> set[str]:
        """Addresses of such servers in a private network."""
        rows = self.in_network(network_id).values_list("private", flat=True)
        return {
            address
            for private in rows
            for one in private
            if one["network_id"] == network_id
            for address in one.get("addresses", ())
        }

    def holder_of(self, address: str, *, but: int) -> Holding | None:
        """Who has this public address, `but` for a server of this number."""
        return self.filter(addresses__contains=[address]).exclude(vm_id=but).first()


class Holding(models.Model):
    """A server as its host's document has it. `known`: the inventory has it with other claims."""

    host = models.ForeignKey("cloud.Host", models.CASCADE, related_name="holdings")
    vm_id = models.PositiveBigIntegerField()
    uuid = models.UUIDField()
    generation = models.PositiveBigIntegerField()
    known = models.BooleanField(default=False)
    addresses = models.JSONField(default=list)
    ports = models.JSONField(default=list)
    private = models.JSONField(default=list)
    first_seen = models.DateTimeField(default=timezone.now)

    objects = HoldingQuerySet.as_manager()

    class Meta:
        ordering = ["host", "vm_id"]
        constraints = [
            models.UniqueConstraint(fields=["host", "uuid"], name="holding_once_on_a_host")
        ]

    def __str__(self) -> str:
        return f"server #{self.vm_id} ({self.uuid}) on {self.host}"
