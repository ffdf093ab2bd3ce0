"""What a host has too many or too few of, as rows with an age.

`vms.drift` compares what hosts say with the inventory and keeps these rows. One that vanished is
closed and kept for a while: whatever comes back, such as a thing that an operator marked as known,
is known by its row.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Self

from django.db import models
from django.db.models import CheckConstraint, F, Q, UniqueConstraint
from django.utils import timezone

from cloud.snapshots import Policy, audited

# What was seen only for a moment may be work that overtook its own report: it is shown, but
# nothing is removed for it.
GRACE = timedelta(seconds=5)
MISSING, EXTRA = "missing", "extra"
QUARANTINE = "quarantine"


class Survey(models.Model):
    """The last look of a host at itself. `unseen`, `cut`: what follows from it for nobody.

    `left_out`: differences beyond those that are kept as rows.
    """

    host = models.OneToOneField("cloud.Host", models.CASCADE, related_name="survey")
    seq = models.PositiveBigIntegerField(default=0)
    boot_id = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField(null=True, blank=True)
    unseen = models.JSONField(default=list, blank=True, help_text="Kinds it could not look at.")
    cut = models.JSONField(default=dict, blank=True, help_text="How many of a kind it left out.")
    left_out = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"survey of {self.host}"


class DriftQuerySet(models.QuerySet["Drift"]):
    def open(self) -> Self:
        """Differences that there are, those included that an operator marked as known."""
        return self.filter(closed_at=None)

    def standing(self) -> Self:
        """Those that are somebody's business: neither vanished nor marked as known."""
        return self.open().filter(kept_at=None)

    def quarantined(self) -> Self:
        return self.standing().filter(verb=QUARANTINE)

    def in_state(self, state: str | None) -> Self:
        """Those `quarantined`, `kept` or `closed`; those that stand, of any other word."""
        match state:
            case "quarantined":
                return self.quarantined()
            case "kept":
                return self.open().exclude(kept_at=None)
            case "closed":
                return self.exclude(closed_at=None)
            case _:
                return self.standing()

    def confirmed(self) -> Self:
        """Seen again after a while: no work under way explains them."""
        return self.filter(last_seen__gte=F("first_seen") + GRACE)

    def older_than(self, moment: datetime) -> Self:
        return self.filter(first_seen__lt=moment)


@audited(
    Policy(
        "drift",
        ("keep", "watch", "repair"),
        unrecorded=("first_seen", "last_seen", "closed_at", "reason", "detail"),
    )
)
class Drift(models.Model):
    """A difference between the inventory and a host.

    `server_id`, `network_id`, `uuid`: whose it is by its name; no foreign keys, because the
    inventory may not have them. `generation`: of the document that the host holds of it. `verb`
    and `reason`: what a repair would do, and why, by what was known when it was seen last.
    """

    host = models.ForeignKey("cloud.Host", models.CASCADE, related_name="drift")
    kind = models.CharField(max_length=16)
    name = models.CharField(max_length=200)
    direction = models.CharField(
        max_length=8, choices=[(MISSING, "Missing on the host"), (EXTRA, "Not in the inventory")]
    )
    detail = models.CharField(max_length=255, blank=True)
    server_id = models.PositiveBigIntegerField(null=True, blank=True)
    network_id = models.PositiveBigIntegerField(null=True, blank=True)
    uuid = models.UUIDField(null=True, blank=True)
    generation = models.PositiveBigIntegerField(null=True, blank=True)
    verb = models.CharField(max_length=16)
    reason = models.TextField(blank=True)
    first_seen = models.DateTimeField(default=timezone.now)
    last_seen = models.DateTimeField(default=timezone.now)
    closed_at = models.DateTimeField(null=True, blank=True, db_index=True)
    kept_at = models.DateTimeField(
        null=True, blank=True, help_text="An operator knows it and leaves it as it is."
    )
    repaired_at = models.DateTimeField(
        null=True, blank=True, help_text="When a repair was ordered last."
    )

    objects = DriftQuerySet.as_manager()

    class Meta:
        ordering = ["host", "first_seen", "id"]
        verbose_name = "difference"
        default_permissions = ("view", "change")
        constraints = [
            UniqueConstraint(fields=["host", "kind", "name", "direction"], name="drift_known_once"),
            CheckConstraint(
                name="drift_direction_known", condition=Q(direction__in=[MISSING, EXTRA])
            ),
        ]
        indexes = [
            models.Index(fields=["host"], name="drift_open", condition=Q(closed_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.direction} {self.kind} {self.name} on {self.host}"

    @property
    def confirmed(self) -> bool:
        """Like `DriftQuerySet.confirmed`, of this row as it was read."""
        return self.last_seen - self.first_seen >= GRACE
