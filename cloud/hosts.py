"""Hosts join, speak, and are closed for new servers."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from cloud.actor import Actor, acting
from cloud.audit import changing, write
from cloud.broker import Administration, broker_user, declare_host
from cloud.hostconfig import BUNDLE_VERSION
from cloud.models import Host, Location

log = structlog.get_logger(__name__)


def add_host(name: str, location: Location) -> dict[str, Any]:
    """Make the host's row, its queues and its broker user; answers its join bundle.

    Repeating it gives the host a new password and so a new bundle; the old one is void.
    Raises ValidationError (name) or BrokerRefused.
    """
    Host(name=name, location=location).clean_fields()
    password = secrets.token_urlsafe(32)
    declare_host(settings.BROKER_URL, name)
    Administration(settings.BROKER_API_URL, settings.BROKER_URL).ensure_host_user(name, password)
    with transaction.atomic():
        known = Host.objects.select_for_update().filter(name=name).first()
        host = known or Host(name=name)
        with changing(host, "rejoin" if known else "add", always=True):
            host.location = location
            host.save()
    return {"version": BUNDLE_VERSION, "host": name, "broker_url": _url_for(name, password)}


def set_schedulable(host: Host, schedulable: bool) -> None:
    """Open or close the host for new servers; running ones are not touched.

    Raises Conflict if another request did so meanwhile.
    """
    write(host, {"schedulable": schedulable}, "open" if schedulable else "close")


@dataclass(frozen=True)
class Heartbeat:
    """What a host says of itself; `facts` are columns of Host."""

    name: str
    uuid: uuid.UUID
    facts: dict[str, Any]


def record_heartbeat(heartbeat: Heartbeat, sender: str) -> tuple[Host, bool] | None:
    """Write the facts; answers the host and whether it had been silent, None if refused.

    The first heartbeat claims the name for its machine. A sender with another host's broker
    user, or a second machine under a claimed name, changes nothing but `refused_uuid`.
    """
    if sender != broker_user(heartbeat.name):
        log.error("heartbeat under a foreign name dropped", host=heartbeat.name, sender=sender)
        return None
    with acting(Actor.host(sender)), transaction.atomic():
        host = Host.objects.select_for_update(no_key=True).filter(name=heartbeat.name).first()
        if host is None:
            log.error("heartbeat of an unknown host dropped", host=heartbeat.name)
            return None
        if host.uuid not in (None, heartbeat.uuid):
            log.error("second machine refused", host=host.name, uuid=str(heartbeat.uuid))
            with changing(host, "refuse"):
                host.refused_uuid = heartbeat.uuid
                host.save(update_fields=["refused_uuid"])
            return None
        now = timezone.now()
        was_silent = Host.objects.silent(now, settings.HOST_SILENT_SECONDS).filter(pk=host.pk)
        returned = was_silent.exists()
        with changing(host, "claim"):
            host.uuid = heartbeat.uuid
            host.last_heartbeat = now
            for field, value in heartbeat.facts.items():
                setattr(host, field, value)
            host.save(update_fields=["uuid", "last_heartbeat", *heartbeat.facts])
    return host, returned


def _url_for(name: str, password: str) -> str:
    parts = urlsplit(settings.HOST_BROKER_URL)
    user = f"{quote(broker_user(name), safe='')}:{quote(password, safe='')}"
    address = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{user}@{address}{parts.path}"
