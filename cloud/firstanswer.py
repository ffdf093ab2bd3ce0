"""First answers to writes that may be repeated. `cloud.api.idempotency` keeps and gives them."""

from __future__ import annotations

from django.db import models
from django.db.models import UniqueConstraint
from django.utils import timezone


class IdempotencyKey(models.Model):
    """The first answer to a write that carried an Idempotency-Key, kept for a day.

    Stored in the transaction of the write itself, so key and effect exist together or not at all.
    """

    project = models.ForeignKey("cloud.Project", models.CASCADE)
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, path and body.")
    status = models.PositiveSmallIntegerField(default=0)
    response = models.TextField(blank=True, help_text="Encrypted: it may hold a password.")
    created = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [
            UniqueConstraint(fields=["project", "key"], name="idempotency_key_unique"),
        ]

    def __str__(self) -> str:
        return self.key
