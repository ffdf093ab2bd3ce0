"""Messages that nobody could take: what is kept of them for people to see."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import CheckConstraint, Q
from django.utils import timezone


class DeadLetterQuerySet(models.QuerySet["DeadLetter"]):
    def beyond(self, most: int) -> Self:
        """All but the newest `most`."""
        newest = self.order_by("-last_at", "-pk").values("pk")[:most]
        return self.exclude(pk__in=newest)

    def older_than(self, moment: datetime) -> Self:
        return self.filter(last_at__lt=moment)


class DeadLetter(models.Model):
    """One message that died, or several that died alike of the same resource.

    `digest` says what makes them alike. There are no foreign keys: a letter outlives what it names.
    """

    class Reason(models.TextChoices):
        REJECTED = "rejected", "Refused"
        DELIVERY_LIMIT = "delivery_limit", "Delivered too often"
        MAXLEN = "maxlen", "Queue was full"
        UNKNOWN = "unknown", "Unknown"

    digest = models.CharField(max_length=64, unique=True, editable=False)
    at = models.DateTimeField(default=timezone.now, help_text="Of the first.")
    last_at = models.DateTimeField(default=timezone.now, db_index=True)
    times = models.PositiveIntegerField(default=1)
    queue = models.CharField(max_length=128)
    reason = models.CharField(max_length=16, choices=Reason)
    explanation = models.TextField(help_text="What was wrong with it.")
    deliveries = models.PositiveIntegerField(default=0, help_text="0: the broker did not say.")
    task = models.CharField(max_length=128, blank=True)
    sender = models.CharField(max_length=128, blank=True, help_text="The broker's user.")
    host = models.CharField(max_length=32, blank=True)
    resource_type = models.CharField(max_length=32, blank=True)
    resource_id = models.PositiveBigIntegerField(null=True)
    generation = models.PositiveBigIntegerField(null=True)
    request_id = models.CharField(max_length=128, blank=True, db_index=True)
    bytes = models.PositiveBigIntegerField()
    excerpt = models.TextField(blank=True, help_text="Without secrets.")
    actions = models.JSONField(default=list, help_text="Numbers of the Actions that it ended.")
    asked_again_at = models.DateTimeField(null=True)

    objects = DeadLetterQuerySet.as_manager()

    class Meta:
        ordering = ["-last_at", "-id"]
        default_permissions = ("view", "change", "delete")
        constraints = [
            CheckConstraint(
                name="dead_letter_reason_known",
                condition=Q(reason__in=["rejected", "delivery_limit", "maxlen", "unknown"]),
            ),
        ]
        indexes = [
            models.Index(fields=["resource_type", "resource_id"], name="dead_letter_by_resource")
        ]

    def __str__(self) -> str:
        return f"{self.task or 'message'} #{self.pk}"
