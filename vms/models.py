"""Servers and what they are made from.

The API calls a `VM` a server. A VM row holds two halves: what the user wants (`goal`,
`generation`, `deleting`, ...), written by `vms.actions`, and what the host saw (`observed_*`),
written by `vms.reports`. `status` is derived from both by `vms.lifecycle` and stored, so that
lists filter on it.
"""

from __future__ import annotations

import uuid

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint
from django.utils import timezone

from cloud.models import Action, Host, Project
from cloud.snapshots import Policy, audited
from networks.models import Firewall, FirewallSelector
from vms.catalogue import Image, ImageCopy, ServerType, SshKey
from vms.holdings import Holding
from vms.interfaces import FloatingAssignment, ForwardedPort, Nic, PrivateAddress
from vms.lifecycle import HeldBack, Status
from vms.querysets import UsageQuerySet, VMQuerySet
from vms.spec import Power, PowerGoal

__all__ = [
    "VM",
    "Disk",
    "FirewallUse",
    "FloatingAssignment",
    "ForwardedPort",
    "Holding",
    "Image",
    "ImageCopy",
    "Nic",
    "PrivateAddress",
    "ServerType",
    "SshKey",
    "UsageSample",
]


@audited(
    Policy(
        "server",
        (
            "create",
            "update",
            "change_protection",
            "delete",
            "poweron",
            "poweroff",
            "shutdown",
            "reboot",
            "reset",
            "give_up",  # it could not be made at all
            "guest_halted",  # the guest switched itself off
            "shutdown_ignored",  # the guest did not obey its power button
            "gone",  # its host proved that nothing is left
            "verify",  # its host said what it has, after the inventory was restored
        ),
        secret=("root_password_hash",),
        digested=("user_data",),
        unrecorded=(
            "goal_since",
            "request_id",  # the entry has its own
            "action",
            "observed_generation",
            "applied_generation",
            "observed_seq",
            "observed_power",
            "observed_at",
            "converged",
            "provisioned",
            "failure_final",
            "held_back",
            "attempts",
            "next_dispatch_at",
        ),
    )
)
class VM(models.Model):
    """A server: the desired half, the observed half, and what was claimed for it."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    project = models.ForeignKey(Project, models.PROTECT, related_name="vms")
    name = models.CharField(max_length=128)
    labels = models.JSONField(default=dict, blank=True)
    created = models.DateTimeField(default=timezone.now, editable=False)
    delete_protection = models.BooleanField(default=False)
    rebuild_protection = models.BooleanField(default=False)

    host = models.ForeignKey(Host, models.PROTECT, related_name="vms")
    server_type = models.ForeignKey(ServerType, models.PROTECT, related_name="vms")
    image = models.ForeignKey(Image, models.PROTECT, related_name="vms")
    # Copies of the type's numbers: what this VM claimed stays true when the type changes.
    cores = models.PositiveSmallIntegerField()
    memory_mb = models.PositiveIntegerField()
    disk_gb = models.PositiveIntegerField()
    ssh_keys = models.JSONField(default=list, blank=True, help_text="Public keys at creation.")
    user_data = models.TextField(blank=True)
    root_password_hash = models.CharField(max_length=255, blank=True, editable=False)

    goal = models.CharField(
        max_length=16, choices=[(g.value, g.value) for g in PowerGoal], default=PowerGoal.RUNNING
    )
    generation = models.PositiveBigIntegerField(default=1)
    goal_since = models.DateTimeField(default=timezone.now)
    reset_serial = models.PositiveBigIntegerField(default=0)
    reboot_serial = models.PositiveBigIntegerField(default=0)
    deleting = models.BooleanField(default=False)
    # Who asked for this generation, and as what; "" and None where the cloud itself did.
    request_id = models.CharField(max_length=128, blank=True, editable=False)
    action = models.ForeignKey(
        Action, models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )

    observed_generation = models.PositiveBigIntegerField(default=0)
    applied_generation = models.PositiveBigIntegerField(
        default=0, help_text="The newest one that its host carried out whole."
    )
    observed_seq = models.PositiveBigIntegerField(default=0)
    observed_power = models.CharField(
        max_length=16, choices=[(p.value, p.value) for p in Power], default=Power.UNKNOWN
    )
    observed_at = models.DateTimeField(null=True, blank=True)
    converged = models.BooleanField(default=False)
    converged_at = models.DateTimeField(null=True, blank=True, help_text="Last seen as wanted.")
    provisioned = models.BooleanField(default=False, help_text="It was complete at least once.")
    failure_code = models.CharField(max_length=64, blank=True)
    failure_message = models.TextField(blank=True)
    failure_final = models.BooleanField(default=False)

    held_back = models.CharField(
        max_length=16,
        blank=True,
        editable=False,
        choices=[(one.value, one.value) for one in HeldBack],
        help_text="Why its host is not told of it since the inventory was restored.",
    )

    status = models.CharField(
        max_length=16, choices=[(s.value, s.value) for s in Status], default=Status.INITIALIZING
    )
    attempts = models.PositiveIntegerField(default=0)
    next_dispatch_at = models.DateTimeField(default=timezone.now)

    objects = VMQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        verbose_name = "server"
        constraints = [
            # A server that is being deleted no longer holds its name.
            UniqueConstraint(
                fields=["project", "name"], condition=Q(deleting=False), name="vm_name_unique"
            ),
            CheckConstraint(
                name="vm_observes_no_future",
                condition=Q(observed_generation__lte=models.F("generation")),
            ),
            CheckConstraint(
                name="vm_status_known", condition=Q(status__in=[s.value for s in Status])
            ),
            CheckConstraint(
                name="vm_goal_known", condition=Q(goal__in=[g.value for g in PowerGoal])
            ),
        ]
        indexes = [
            # For the sweep: it costs what it finds, however many servers there are.
            models.Index(
                fields=["next_dispatch_at"],
                name="vm_unmet",
                condition=Q(observed_generation__lt=models.F("generation")) | Q(converged=False),
            ),
            models.Index(fields=["observed_at"], name="vm_by_observation"),
            models.Index(
                fields=["goal_since"],
                name="vm_ignoring_shutdown",
                condition=Q(goal=PowerGoal.SHUTDOWN, observed_power=Power.RUNNING, deleting=False),
            ),
            models.Index(
                fields=["host"],
                name="vm_unknown",
                condition=Q(status=Status.UNKNOWN, deleting=False),
            ),
            models.Index(fields=["project", "status"], name="vm_by_status"),
        ]

    def __str__(self) -> str:
        return self.name


class Disk(models.Model):
    """A disk of a VM; index 0 is the overlay on its image."""

    vm = models.ForeignKey(VM, models.CASCADE, related_name="disks")
    index = models.PositiveSmallIntegerField(default=0)
    size_gb = models.PositiveIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(65536)]
    )

    class Meta:
        ordering = ["index"]
        constraints = [UniqueConstraint(fields=["vm", "index"], name="disk_index_unique")]

    def __str__(self) -> str:
        return f"{self.vm} disk {self.index}"


class FirewallUse(models.Model):
    """Why a firewall guards a server: it was applied to it, or to a selector that it meets.

    `generation` is the VM's first one that carries the firewall as it is now.
    """

    vm = models.ForeignKey(VM, models.CASCADE, related_name="firewall_uses")
    firewall = models.ForeignKey(Firewall, models.PROTECT, related_name="uses")
    selector = models.ForeignKey(
        FirewallSelector, models.CASCADE, null=True, blank=True, related_name="uses"
    )
    generation = models.PositiveBigIntegerField()

    class Meta:
        ordering = ["id"]
        constraints = [
            UniqueConstraint(
                fields=["vm", "firewall", "selector"],
                nulls_distinct=False,
                name="firewall_use_unique",
            )
        ]

    def __str__(self) -> str:
        return f"{self.firewall} on {self.vm}"


class UsageSample(models.Model):
    """What a VM used in the `seconds` before `at`: measured by its host, or an average of that.

    `cpu` in percent of one core; rates per second. NULL: it could not be measured. Disk and
    network are those of index 0.
    """

    # Unchecked by the database: a check for every sample is as many statements as all others of a
    # large cloud. Who stores one locks its server's row, and so does who deletes that.
    vm = models.ForeignKey(
        VM, models.CASCADE, related_name="usage", db_index=False, db_constraint=False
    )
    at = models.DateTimeField()
    seconds = models.FloatField()
    condensed = models.BooleanField(default=False)
    cpu = models.FloatField()
    memory_bytes = models.BigIntegerField()
    disk_iops_read = models.FloatField(null=True)
    disk_iops_write = models.FloatField(null=True)
    disk_bandwidth_read = models.FloatField(null=True)
    disk_bandwidth_write = models.FloatField(null=True)
    network_pps_in = models.FloatField(null=True)
    network_pps_out = models.FloatField(null=True)
    network_bandwidth_in = models.FloatField(null=True)
    network_bandwidth_out = models.FloatField(null=True)

    objects = UsageQuerySet.as_manager()

    class Meta:
        ordering = ["vm", "at"]
        constraints = [UniqueConstraint(fields=["vm", "at"], name="usage_sample_once")]
        indexes = [models.Index(fields=["condensed", "at"], name="usage_by_age")]

    def __str__(self) -> str:
        return f"{self.vm_id} at {self.at:%F %T}"
