"""What servers are made from: types, images and where copies of those are, SSH keys.

Their models belong to `vms.models`, which everybody imports.
"""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q, UniqueConstraint
from django.utils import timezone

from cloud.models import Host, Project
from cloud.snapshots import Policy, audited
from vms.querysets import ImageQuerySet, SshKeyQuerySet

sha256_hex = RegexValidator(r"^[0-9a-f]{64}\Z", "Use the 64 lower-case hex digits of SHA-256.")
# The bounds of `networks.spec.Mbit`.
_MBIT = [MinValueValidator(1), MaxValueValidator(400_000)]


@audited(Policy("server_type", ("create", "update", "delete")))
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
    mbit_in = models.PositiveIntegerField(
        "Mbit/s in", null=True, blank=True, validators=_MBIT, help_text="Empty: unlimited."
    )
    mbit_out = models.PositiveIntegerField(
        "Mbit/s out", null=True, blank=True, validators=_MBIT, help_text="Empty: unlimited."
    )
    deprecated_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name


@audited(Policy("image", ("register", "retire"), unrecorded=("status", "problem")))
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
    failure_final = models.BooleanField(
        default=False, help_text="It is asked again only if an operator adds the image again."
    )
    updated = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveIntegerField(default=0)
    next_dispatch_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "image copies"
        constraints = [UniqueConstraint(fields=["image", "host"], name="image_copy_unique")]

    def __str__(self) -> str:
        return f"{self.image} on {self.host}"


@audited(Policy("ssh_key", ("create", "update", "delete")))
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
