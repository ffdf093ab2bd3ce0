"""The cloud's own inventory: projects, tokens, locations, hosts; actions and the audit trail."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import CheckConstraint, F, Q, UniqueConstraint
from django.utils import timezone

from cloud.actor import Kind
from cloud.authority import Authority  # noqa: F401  (a model of this app)
from cloud.buckets import Bucket  # noqa: F401  (a model of this app)
from cloud.deadletter import DeadLetter as DeadLetter
from cloud.drift import Drift, Survey  # noqa: F401  (models of this app)
from cloud.firstanswer import IdempotencyKey as IdempotencyKey
from cloud.querysets import (
    MESH_MODES,
    USER_MODE,
    ActionQuerySet,
    ActionStepQuerySet,
    ApiTokenQuerySet,
    HostQuerySet,
)
from cloud.snapshots import Policy, audited
from cloud.wire import StepName

_DAY = timedelta(days=1)
# A name that fits a network namespace, a RabbitMQ user and a queue name alike.
host_name = RegexValidator(
    r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?\Z",
    "Use up to 32 lower-case letters, digits and hyphens, hyphens not at the ends.",
)

audited(
    Policy(
        "user",
        ("create", "update", "delete", "change_password"),
        secret=("password",),
        unrecorded=("last_login",),
        many={"groups": "name", "user_permissions": "codename"},
    )
)(User)


@audited(Policy("project", ("create", "update")))
class Project(models.Model):
    """Owns servers, keys and addresses; a token sees one project."""

    name = models.CharField(max_length=128, unique=True)
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


@audited(Policy("token", ("issue", "revoke"), secret=("digest",), unrecorded=("last_used",)))
class ApiToken(models.Model):
    """A 64-character bearer token, stored as its SHA-256 only.

    256 random bits need no slow hash: there is nothing to guess from.
    """

    project = models.ForeignKey(Project, models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=128)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    read_only = models.BooleanField(default=False, help_text="May only GET.")
    operator = models.BooleanField(default=False, help_text="May also see hosts.")
    requests_per_hour = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Empty: as all others."
    )
    created = models.DateTimeField(default=timezone.now, editable=False)
    last_used = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ["project", "name"]
        verbose_name = "API token"
        constraints = [UniqueConstraint(fields=["project", "name"], name="api_token_name_unique")]

    def __str__(self) -> str:
        return f"{self.project}/{self.name}"


@audited(Policy("location", ("create", "update", "delete")))
class Location(models.Model):
    """A place with hosts; an object of one location is never moved to another."""

    name = models.CharField(max_length=64, unique=True, validators=[host_name])
    description = models.CharField(max_length=255, blank=True)
    country = models.CharField(max_length=2, default="DE", help_text="ISO 3166-1 alpha-2.")
    city = models.CharField(max_length=128, blank=True)
    latitude = models.FloatField(default=0.0)
    longitude = models.FloatField(default=0.0)
    network_zone = models.CharField(max_length=64, default="local")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


@audited(
    Policy(
        "host",
        ("add", "rejoin", "open", "close", "claim", "refuse", "revoke", "write_off"),
        unrecorded=(
            "tunnel_endpoint",
            "boot_id",
            "agent_version",
            "network_mode",
            "uplink_ip",
            "cores",
            "memory_mb",
            "disk_gb",
            "disk_free_gb",
            "accelerator",
            "accelerator_reason",
            "leftovers",
            "last_heartbeat",
            "forward_ip",
            "first_forward_port",
            "last_forward_port",
            "public_ranges",
            "cables",
            "cable_endpoint",
            "problems",
            "unverified_since",
        ),
    )
)
class Host(models.Model):
    """A machine that runs VMs. What it has comes from its heartbeats, never from a form.

    `uuid` is claimed by the first heartbeat; a second machine under the same name is refused.
    """

    class Accelerator(models.TextChoices):
        KVM = "kvm", "KVM"
        TCG = "tcg", "TCG (slow)"

    name = models.CharField(max_length=32, unique=True, validators=[host_name])
    location = models.ForeignKey(Location, models.PROTECT, related_name="hosts")
    schedulable = models.BooleanField(
        default=True, help_text="New servers may be placed here. Running ones are not affected."
    )
    created = models.DateTimeField(default=timezone.now, editable=False)

    uuid = models.UUIDField(null=True, blank=True, unique=True, editable=False)
    boot_id = models.CharField(max_length=64, blank=True, editable=False)
    agent_version = models.CharField(max_length=32, blank=True, editable=False)
    network_mode = models.CharField(max_length=16, blank=True, editable=False)
    uplink_ip = models.GenericIPAddressField(null=True, blank=True, editable=False)
    cores = models.PositiveIntegerField(default=0, editable=False)
    memory_mb = models.PositiveIntegerField(default=0, editable=False)
    disk_gb = models.PositiveIntegerField(default=0, editable=False)
    disk_free_gb = models.PositiveIntegerField(default=0, editable=False)
    accelerator = models.CharField(max_length=8, blank=True, choices=Accelerator, editable=False)
    accelerator_reason = models.CharField(max_length=255, blank=True, editable=False)
    leftovers = models.JSONField(
        default=list,
        blank=True,
        editable=False,
        help_text="What its network holds beyond its servers, in words.",
    )
    # Without an index: hosts are few, and without one a heartbeat is an update in place.
    last_heartbeat = models.DateTimeField(null=True, blank=True, editable=False)
    # What makes it a part of the mesh that private networks go through; see `HostQuerySet.in_mesh`.
    tunnel_key = models.CharField(max_length=44, blank=True, editable=False)
    tunnel_endpoint = models.CharField(
        max_length=64, blank=True, editable=False, help_text="Empty: behind NAT, it calls first."
    )
    tunnel_ip = models.GenericIPAddressField(null=True, blank=True, unique=True, editable=False)
    # What a host in user mode gives guests instead of links: see `vms.spec.HostReport`.
    forward_ip = models.GenericIPAddressField(
        null=True, blank=True, editable=False, help_text="Where forwarded ports are reached."
    )
    first_forward_port = models.PositiveIntegerField(default=0, editable=False)
    last_forward_port = models.PositiveIntegerField(default=0, editable=False)
    public_ranges = models.JSONField(
        default=list, blank=True, editable=False, help_text="Led to the TAP that root prepared."
    )
    cables = models.BooleanField(default=False, editable=False)
    cable_endpoint = models.CharField(
        max_length=64, blank=True, editable=False, help_text="Empty: it accepts no cables."
    )
    problems = models.JSONField(
        default=list, blank=True, editable=False, help_text="What it lacks, and what mends that."
    )
    revoked_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="No other host talks to it since then."
    )
    # The inventory was restored since then, and the host has not said yet what it has.
    unverified_since = models.DateTimeField(null=True, editable=False)
    refused_uuid = models.UUIDField(
        null=True,
        blank=True,
        editable=False,
        help_text="Another machine that tried to use this name.",
    )

    objects = HostQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            UniqueConstraint(
                fields=["tunnel_key"], condition=~Q(tunnel_key=""), name="host_tunnel_key_unique"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def in_mesh(self) -> bool:
        """Like `HostQuerySet.in_mesh`, of this row as it was read."""
        known = self.uuid and self.tunnel_key and self.tunnel_ip
        return bool(known and self.network_mode in MESH_MODES and self.revoked_at is None)

    @property
    def in_user_mode(self) -> bool:
        """Whether it has no privilege: see `networks.spec.NicSpec`."""
        return self.network_mode == USER_MODE

    @property
    def takes_members(self) -> bool:
        """Whether its servers can be in private networks: by the mesh, or by cables."""
        cabled = self.in_user_mode and self.cables and self.revoked_at is None
        return self.in_mesh or cabled

    @property
    def queue(self) -> str:
        return f"host.{self.name}"

    def is_silent(self, now: datetime, after_seconds: float) -> bool:
        """Like `HostQuerySet.silent`, of this row as it was read."""
        heard = self.last_heartbeat
        return heard is None or abs(now - heard) > timedelta(seconds=after_seconds)


class Action(models.Model):
    """One request of a user, from its acceptance to its end. It outlives its resources.

    Legal transitions: running → success, running → error. Every write that ends an Action
    filters on `status="running"`, so an end is written once. `goal` and `generation` say which
    observation ends it (see `vms.lifecycle`); past `deadline` reconcile ends it as an error.
    """

    class Status(models.TextChoices):
        RUNNING = "running", "Running"
        SUCCESS = "success", "Success"
        ERROR = "error", "Error"

    project = models.ForeignKey(Project, models.CASCADE, related_name="actions")
    command = models.CharField(max_length=64)
    status = models.CharField(max_length=8, choices=Status, default=Status.RUNNING)
    progress = models.PositiveSmallIntegerField(default=0, help_text="Percent.")
    started = models.DateTimeField(default=timezone.now)
    finished = models.DateTimeField(null=True, blank=True)
    deadline = models.DateTimeField()
    goal = models.CharField(max_length=16)
    generation = models.PositiveBigIntegerField(validators=[MinValueValidator(1)])
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.TextField(blank=True)
    request_id = models.CharField(max_length=128, blank=True, db_index=True)

    objects = ActionQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            # No Action without an end, or with one that nobody lives to see.
            CheckConstraint(
                name="action_deadline_within_a_day",
                condition=Q(deadline__gt=F("started"), deadline__lte=F("started") + _DAY),
            ),
            CheckConstraint(
                name="action_ended_has_finished",
                condition=Q(status="running", finished=None)
                | Q(finished__isnull=False) & ~Q(status="running"),
            ),
            CheckConstraint(
                name="action_error_has_code",
                condition=Q(status="error") & ~Q(error_code="")
                | ~Q(status="error") & Q(error_code=""),
            ),
        ]
        indexes = [
            models.Index(
                fields=["deadline"], name="action_open_by_deadline", condition=Q(status="running")
            )
        ]

    def __str__(self) -> str:
        return f"{self.command} #{self.pk}"


class ActionResource(models.Model):
    """What an Action is about. No foreign key: clients poll actions of objects that are gone."""

    action = models.ForeignKey(Action, models.CASCADE, related_name="resources")
    type = models.CharField(max_length=32)
    resource_id = models.PositiveBigIntegerField()

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["type", "resource_id"], name="action_by_resource")]

    def __str__(self) -> str:
        return f"{self.type} {self.resource_id}"


class ActionStep(models.Model):
    """A part of an Action's course: where it happened, when, and how it went.

    `placed` and `queued` are written by control, all others come from the host's reports, by its
    clock. A step is known by its name and start, so a report that comes twice changes nothing.
    """

    action = models.ForeignKey(Action, models.CASCADE, related_name="steps")
    name = models.CharField(max_length=16, choices=[(n.value, n.value) for n in StepName])
    host = models.CharField(max_length=32, blank=True)
    started = models.DateTimeField()
    finished = models.DateTimeField(null=True, blank=True, help_text="None: under way.")
    attempt = models.PositiveIntegerField(default=1)
    error_code = models.CharField(max_length=64, blank=True)
    error_message = models.TextField(blank=True)
    passed_over = models.JSONField(
        default=dict, blank=True, help_text="placed: why each other host was not chosen."
    )

    objects = ActionStepQuerySet.as_manager()

    class Meta:
        ordering = ["started", "id"]
        constraints = [
            UniqueConstraint(fields=["action", "name", "started"], name="action_step_unique")
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.action_id}"


class AuditEntry(models.Model):
    """Who did what, to what, and what it was before. Written by `cloud.audit`, never changed.

    Triggers of the database refuse every other write. There are no foreign keys: entries outlive
    everything that they name. `before` and `after` hold the fields that changed; there is no
    `before` of what was made and no `after` of what was deleted.
    """

    at = models.DateTimeField(default=timezone.now)
    actor_kind = models.CharField(max_length=8, choices=[(kind.value, kind.value) for kind in Kind])
    actor_id = models.BigIntegerField(null=True)
    actor_name = models.CharField(max_length=300)
    project_id = models.BigIntegerField(null=True)
    project_name = models.CharField(max_length=128, blank=True)
    verb = models.CharField(max_length=64)
    resource_type = models.CharField(max_length=32)
    resource_id = models.BigIntegerField()
    resource_name = models.CharField(max_length=300)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    request_id = models.CharField(max_length=128, blank=True, db_index=True)
    action_id = models.BigIntegerField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["at"], name="audit_by_time"),
            models.Index(fields=["resource_type", "resource_id"], name="audit_by_resource"),
            models.Index(fields=["actor_kind", "actor_id"], name="audit_by_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.resource_name} #{self.pk}"
