"""Servers and what they are made from.

The API calls a `VM` a server. A VM row holds two halves: what the user wants (`goal`,
`generation`, `deleting`, ...), written by `vms.actions`, and what the host saw (`observed_*`),
written by `vms.reports`. `status` is derived from both by `vms.lifecycle` and stored, so that
lists filter on it.
"""

from __future__ import annotations

import uuid

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint
from django.utils import timezone

from cloud.models import Action, Host, Project
from networks.addressing import new_mac
from networks.models import Address, Firewall, FirewallSelector
from vms.lifecycle import Status
from vms.querysets import ImageQuerySet, SshKeyQuerySet, VMQuerySet
from vms.spec import Power, PowerGoal

sha256_hex = RegexValidator(r"^[0-9a-f]{64}\Z", "Use the 64 lower-case hex digits of SHA-256.")


class ServerType(models.Model):
    """A size that servers can have."""

    class CpuType(models.TextChoices):
        SHARED = "shared", "Shared"
        DEDICATED = "dedicated", "Dedicated"

    name = models.CharField(max_length=64, unique=True)
    description = models.CharField(max_length=255, blank=True)
    cores = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    memory_mb = models.PositiveIntegerField(validators=[MinValueValidator(64)])
    disk_gb = models.PositiveIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(65536)]
    )
    cpu_type = models.CharField(max_length=16, choices=CpuType, default=CpuType.SHARED)
    architecture = models.CharField(max_length=8, default="x86")
    deprecated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name


class Image(models.Model):
    """A base image. Its files live in the hosts' stores under their checksums."""

    class Type(models.TextChoices):
        SYSTEM = "system", "System"

    class Status(models.TextChoices):
        CREATING = "creating", "Being fetched"
        AVAILABLE = "available", "Available"
        UNAVAILABLE = "unavailable", "Unavailable"

    class Format(models.TextChoices):
        QCOW2 = "qcow2", "qcow2"
        RAW = "raw", "raw"

    project = models.ForeignKey(
        Project, models.CASCADE, null=True, blank=True, help_text="None: everybody may use it."
    )
    name = models.CharField(max_length=128)
    type = models.CharField(max_length=16, choices=Type, default=Type.SYSTEM)
    status = models.CharField(max_length=16, choices=Status, default=Status.CREATING)
    problem = models.TextField(blank=True, help_text="Why it is unavailable.")
    description = models.CharField(max_length=255, blank=True)
    os_flavor = models.CharField(max_length=32, default="unknown")
    os_version = models.CharField(max_length=32, blank=True)
    architecture = models.CharField(max_length=8, default="x86")
    format = models.CharField(max_length=8, choices=Format, default=Format.QCOW2)
    url = models.CharField(max_length=2048)
    sha256 = models.CharField(max_length=64, validators=[sha256_hex])
    bytes = models.PositiveBigIntegerField(help_text="Size of the file.")
    virtual_bytes = models.PositiveBigIntegerField(help_text="Size of the disk inside.")
    boot_files = models.JSONField(
        default=dict, blank=True, help_text="kernel and initrd for direct boot: url, sha256, bytes."
    )
    cmdline = models.CharField(max_length=1024, blank=True, help_text="Kernel command line.")
    labels = models.JSONField(default=dict, blank=True)
    delete_protection = models.BooleanField(default=False)
    created = models.DateTimeField(default=timezone.now, editable=False)
    deprecated_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ImageQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            UniqueConstraint(
                fields=["name", "architecture"],
                condition=Q(type="system", deleted_at=None),
                name="system_image_name_unique",
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def disk_gb(self) -> int:
        """Whole GiB that a disk needs to hold this image."""
        return max(1, -(-self.virtual_bytes // 2**30))


class ImageCopy(models.Model):
    """How far one host is with one image."""

    image = models.ForeignKey(Image, models.CASCADE, related_name="copies")
    host = models.ForeignKey(Host, models.CASCADE, related_name="image_copies")
    ready = models.BooleanField(default=False)
    progress = models.PositiveSmallIntegerField(default=0, help_text="Percent.")
    failure_code = models.CharField(max_length=64, blank=True)
    failure_message = models.TextField(blank=True)
    updated = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveIntegerField(default=0)
    next_dispatch_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "image copies"
        constraints = [UniqueConstraint(fields=["image", "host"], name="image_copy_unique")]

    def __str__(self) -> str:
        return f"{self.image} on {self.host}"


class SshKey(models.Model):
    """A public key that new servers accept. `fingerprint`: MD5 in colon-separated hex pairs."""

    project = models.ForeignKey(Project, models.CASCADE, related_name="ssh_keys")
    name = models.CharField(max_length=128)
    public_key = models.TextField()
    fingerprint = models.CharField(max_length=47)
    labels = models.JSONField(default=dict, blank=True)
    created = models.DateTimeField(default=timezone.now, editable=False)

    objects = SshKeyQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        verbose_name = "SSH key"
        constraints = [
            UniqueConstraint(fields=["project", "name"], name="ssh_key_name_unique"),
            UniqueConstraint(fields=["project", "fingerprint"], name="ssh_key_unique"),
        ]

    def __str__(self) -> str:
        return self.name


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
    provisioned = models.BooleanField(default=False, help_text="It was complete at least once.")
    failure_code = models.CharField(max_length=64, blank=True)
    failure_message = models.TextField(blank=True)
    failure_final = models.BooleanField(default=False)

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
            models.Index(fields=["next_dispatch_at"], name="vm_by_next_dispatch"),
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


class Nic(models.Model):
    """A network interface of a VM."""

    vm = models.ForeignKey(VM, models.CASCADE, related_name="nics")
    index = models.PositiveSmallIntegerField(default=0)
    mac = models.CharField(max_length=17, unique=True, default=new_mac)
    address = models.OneToOneField(Address, models.PROTECT, related_name="nic")

    class Meta:
        ordering = ["index"]
        verbose_name = "NIC"
        constraints = [
            UniqueConstraint(fields=["vm", "index"], name="nic_index_unique"),
            CheckConstraint(
                name="nic_mac_form",
                condition=Q(mac__regex=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.vm} nic{self.index}"


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
