"""Filters of the lists of servers, images, SSH keys and datacenters."""

from __future__ import annotations

from typing import Any

import django_filters

from cloud.api.filters import AnyOf, Exact, LabelledFilter, NameFilter
from vms.lifecycle import Status
from vms.models import Image


class ServerName(Exact):
    """Clients take the first hit for the server: the one that still holds its name."""

    def filter(self, qs: Any, value: str) -> Any:
        return super().filter(qs, value).order_by("deleting", "pk") if value else qs


class ServerFilter(LabelledFilter):
    name = ServerName()
    status = AnyOf(values=[status.value for status in Status])


class IncludeDeprecated(django_filters.BooleanFilter):
    """Without it, what is deprecated is hidden."""

    def filter(self, qs: Any, value: bool | None) -> Any:
        return qs if value else qs.filter(deprecated_at=None)


class BoundTo(django_filters.CharFilter):
    """Only backups are bound to a server, and there are none yet."""

    def filter(self, qs: Any, value: str) -> Any:
        return qs.none() if value else qs


class ImageFilter(LabelledFilter):
    type = AnyOf(values=["system", "app", "snapshot", "backup"])
    status = AnyOf(values=Image.Status.values)
    architecture = AnyOf(values=["x86", "arm"])
    include_deprecated = IncludeDeprecated()
    bound_to = BoundTo()


class SshKeyFilter(LabelledFilter):
    fingerprint = Exact()


class DatacenterName(Exact):
    """`fsn1-dc1` is the datacenter of location `fsn1`."""

    def filter(self, qs: Any, value: str) -> Any:
        if not value:
            return qs
        location, _, suffix = value.rpartition("-")
        return qs.filter(name=location) if suffix == "dc1" else qs.none()


class DatacenterFilter(NameFilter):
    name = DatacenterName()
