"""Make the server types that a new cloud offers."""

from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from cloud.audit import created
from vms.models import ServerType

# name, cores, memory in MiB, disk in GiB
SIZES = (
    ("nano", 1, 256, 1),
    ("small", 1, 1024, 10),
    ("medium", 2, 2048, 20),
    ("large", 4, 8192, 80),
)


class Command(BaseCommand):
    help = "Make the default server types; existing ones of these names are left as they are."

    def handle(self, *args: Any, **options: Any) -> None:
        for name, cores, memory_mb, disk_gb in SIZES:
            sizes = {"cores": cores, "memory_mb": memory_mb, "disk_gb": disk_gb}
            with transaction.atomic():
                kind, new = ServerType.objects.get_or_create(
                    name=name, defaults={**sizes, "description": name.capitalize()}
                )
                if new:
                    created(kind)
        self.stdout.write(f"server types: {', '.join(size[0] for size in SIZES)}")
