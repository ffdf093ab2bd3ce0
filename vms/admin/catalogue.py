"""What servers are made from: images with their copies on the hosts, sizes and SSH keys."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from cloud.admin.access import CatalogueAdmin
from cloud.admin.base import FactsAdmin
from cloud.admin.display import (
    Tone,
    ago,
    badge,
    bar,
    byte_size,
    code,
    labels,
    link,
    live,
    mib,
    stacked,
    state,
)
from cloud.admin.hosts import copy_state
from cloud.admin.operations import Effect, Operation
from cloud.admin.page import Callout, Card, Fact, Page, Table
from cloud.admin.resources import register
from vms.images import retire_image
from vms.models import Image, ServerType

# Of a server type that exists.
_CHANGEABLE = ("description", "deprecated_at")

register(
    "image",
    "vms_image",
    lambda ids: dict(Image.objects.filter(pk__in=ids).values_list("pk", "name")),
)


def _retire(image: Image) -> str:
    retire_image(image)
    return f"Image {image} is retired: new servers cannot use it, existing ones keep their disks."


def image_badge(image: Image) -> SafeString:
    if image.deleted_at:
        return badge("retired", Tone.IDLE)
    return state(image.status, hint=image.problem)


@admin.register(Image)
class ImageAdmin(FactsAdmin):
    list_display = ("title", "state", "copies", "size", "owner", "servers", "made")
    list_filter = (("status", ChoicesDropdownFilter), ("project", RelatedDropdownFilter))
    search_fields = ("name", "description", "os_flavor", "^sha256")
    search_help_text = "Name, description or checksum"
    ordering = ("-id",)
    empty_list = (
        "No images yet",
        "Servers start from images. Register one from the image.json that its builder wrote:",
        "manage.py image_add PATH/image.json",
    )
    list_reload_seconds = 5
    operations = (
        Operation(
            name="retire",
            verb="Retire",
            icon="archive",
            permission="vms.delete_image",
            explanation="New servers cannot use it any more. Existing ones keep their disks.",
            effect=lambda image: Effect(
                "is retired already" if image.deleted_at else "is offered no more"
            ),
            run=_retire,
            offered=lambda image: image.deleted_at is None,
            dangerous=True,
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Image]:
        images: QuerySet[Image] = super().get_queryset(request)
        return images.select_related("project").annotate(
            copy_count=Count("copies", distinct=True),
            ready_count=Count("copies", filter=Q(copies__ready=True), distinct=True),
            vm_count=Count("vms", distinct=True),
        )

    @display(description="Image", ordering="name")
    def title(self, image: Image) -> SafeString:
        return stacked(image.name, image.description)

    @display(description="State", ordering="status")
    def state(self, image: Image) -> SafeString:
        return live(f"state-{image.pk}", image_badge(image))

    @display(description="On hosts", ordering="ready_count")
    def copies(self, image: Any) -> SafeString:
        ready, planned = image.ready_count, image.copy_count
        if not planned:
            return live(f"copies-{image.pk}", "none" if image.deleted_at else "none yet")
        tone = Tone.GOOD if ready == planned else Tone.BUSY
        return live(f"copies-{image.pk}", bar(ready, planned, f"{ready} of {planned}", tone=tone))

    @display(description="Size", ordering="bytes")
    def size(self, image: Image) -> SafeString:
        return stacked(byte_size(image.bytes), f"disk of {image.disk_gb} GiB")

    @display(description="For", ordering="project")
    def owner(self, image: Image) -> SafeString | str:
        return link(image.project) if image.project else "everybody"

    @display(description="Servers", ordering="vm_count")
    def servers(self, image: Any) -> int:
        return int(image.vm_count)

    @display(description="Registered", ordering="created")
    def made(self, image: Image) -> SafeString:
        return ago(image.created)

    def page(self, request: HttpRequest, row: Image) -> Page:
        copies = list(row.copies.select_related("host").order_by("host__name"))
        fetching = any(not copy.ready and not copy.failure_code for copy in copies)
        return Page(
            title=row.name,
            icon="album",
            badges=[image_badge(row)],
            subtitle=row.description,
            callouts=[Callout(Tone.BAD, "Unavailable", row.problem)] if row.problem else [],
            cards=[
                Card(
                    "Image",
                    [
                        Fact("System", f"{row.os_flavor} {row.os_version}".strip()),
                        Fact("Architecture", row.architecture),
                        Fact("For", link(row.project) if row.project else "everybody"),
                        Fact("Servers made from it", row.vm_count),  # type: ignore[attr-defined]
                        Fact("Labels", labels(row.labels)),
                        Fact("Protected", "from deletion" if row.delete_protection else "no"),
                        Fact("Registered", ago(row.created)),
                    ],
                    icon="album",
                ),
                Card(
                    "Files",
                    [
                        Fact("From", code(row.url)),
                        Fact("Format", row.format),
                        Fact("File", byte_size(row.bytes)),
                        Fact("Disk inside", byte_size(row.virtual_bytes)),
                        Fact("SHA-256", code(row.sha256)),
                        Fact(
                            "Boots", f"directly, with {_boot(row)}" if row.boot_files else "itself"
                        ),
                        Fact("Kernel command line", code(row.cmdline) if row.cmdline else None),
                    ],
                    icon="draft",
                ),
            ],
            tables=[
                Table(
                    "Copies on hosts",
                    ("Host", "Copy", "Tries", "Reported"),
                    [
                        [link(copy.host), copy_state(copy), copy.attempts, ago(copy.updated)]
                        for copy in copies
                    ],
                    "No host has been asked to fetch it yet.",
                )
            ],
            reload_seconds=3 if fetching else 0,
        )


def _boot(image: Image) -> str:
    return " and ".join(sorted(image.boot_files))


@admin.register(ServerType)
class ServerTypeAdmin(CatalogueAdmin):
    list_display = ("title", "cores", "memory", "disk", "cpu_type", "servers", "offered")
    search_fields = ("name", "description")
    ordering = ("cores", "memory_mb", "disk_gb")
    fields = (
        "name",
        "description",
        "cores",
        "memory_mb",
        "disk_gb",
        "cpu_type",
        "mbit_in",
        "mbit_out",
        "deprecated_at",
    )
    empty_list = (
        "No server types yet",
        "A type is a size that servers can have.",
        "manage.py catalogue",
    )
    add_label = "Add a server type"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ServerType]:
        types: QuerySet[ServerType] = super().get_queryset(request)
        return types.annotate(vm_count=Count("vms"))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        # Clients know a type by name and expect its size to stay.
        return tuple(name for name in self.fields if name not in _CHANGEABLE) if obj else ()

    @display(description="Type", ordering="name")
    def title(self, kind: ServerType) -> SafeString:
        return stacked(kind.name, kind.description)

    @display(description="Memory", ordering="memory_mb")
    def memory(self, kind: ServerType) -> str:
        return mib(kind.memory_mb)

    @display(description="Disk", ordering="disk_gb")
    def disk(self, kind: ServerType) -> str:
        return f"{kind.disk_gb} GiB"

    @display(description="Servers", ordering="vm_count")
    def servers(self, kind: Any) -> SafeString:
        url = reverse("admin:vms_vm_changelist")
        return format_html(
            '<a class="c-link" href="{}?server_type__id__exact={}">{}</a>',
            url,
            kind.pk,
            kind.vm_count,
        )

    @display(description="Offered", ordering="deprecated_at")
    def offered(self, kind: ServerType) -> SafeString:
        return badge("no more", Tone.IDLE) if kind.deprecated_at else badge("yes", Tone.GOOD)
