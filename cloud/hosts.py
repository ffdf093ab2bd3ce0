"""Hosts join, speak, and are closed for new servers."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote, urlsplit

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from cloud.actor import Actor, acting
from cloud.audit import changing, created, write
from cloud.authority import Authority
from cloud.broker import Administration, broker_user, declare_host
from cloud.hostconfig import BUNDLE_VERSION
from cloud.models import Host, Location

log = structlog.get_logger(__name__)

# Facts of which nobody has to hear when they change.
_FLUCTUATING = ("disk_free_gb",)
# Of PostgreSQL's advisory locks, of which there is no other one here.
_AUTHORITY_LOCK = 1


def add_host(name: str, location: Location) -> dict[str, Any]:
    """Make the host's row, its queues and its broker user; answers its join bundle.

    Repeating it gives the host a new password and so a new bundle; the old one is void. The
    certificate in the old one stays good, but other hosts accept it only where control says so.
    Raises ValidationError (name) or BrokerRefused.
    """
    Host(name=name, location=location).clean_fields()
    password = secrets.token_urlsafe(32)
    declare_host(settings.BROKER_URL, name)
    administration = Administration(settings.BROKER_API_URL, settings.BROKER_URL)
    administration.ensure_policies()
    administration.ensure_host_user(name, password)
    with transaction.atomic():
        known = Host.objects.select_for_update().filter(name=name).first()
        host = known or Host(name=name)
        with changing(host, "rejoin" if known else "add", always=True):
            host.location = location
            host.revoked_at = host.refused_uuid = None
            host.save()
    return {
        "version": BUNDLE_VERSION,
        "host": name,
        "broker_url": _url_for(name, password),
        "tls": asdict(authority().identify(name)),
    }


def authority() -> Authority:
    """The cloud's own, which is made when it is needed first."""
    if known := Authority.objects.first():
        return known
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_AUTHORITY_LOCK])
        if known := Authority.objects.first():
            return known
        made = Authority.generated()
        made.save(force_insert=True)
        created(made)
        return made


def set_schedulable(host: Host, schedulable: bool) -> None:
    """Open or close the host for new servers; running ones are not touched.

    Raises Conflict if another request did so meanwhile.
    """
    write(host, {"schedulable": schedulable}, "open" if schedulable else "close")


def revoke_host(host: Host) -> None:
    """Let the host speak no more: what it says from now on is dropped, its bundle is void.

    Its servers stay in the inventory, unknown. Call within `vms.private.hosts.cut_off`, which
    tells the other hosts; `add_host` takes it back.
    """
    with changing(host, "revoke"):
        host.revoked_at = host.revoked_at or timezone.now()
        host.last_heartbeat = None
        host.save(update_fields=["revoked_at", "last_heartbeat"])


def forget_broker_user(host: Host) -> None:
    """Close the host's way to the broker. Safe to repeat. Raises BrokerRefused."""
    administration = Administration(settings.BROKER_API_URL, settings.BROKER_URL)
    administration.remove_host_user(host.name)


@dataclass(frozen=True)
class Heartbeat:
    """What a host says of itself; `facts` are columns of Host."""

    name: str
    uuid: uuid.UUID
    facts: dict[str, Any]


def note_heartbeat(heartbeat: Heartbeat, sender: str) -> bool:
    """Note that the host lives, in one statement, if its heartbeat says nothing else that is new.

    False: `record_heartbeat` has to look at it.
    """
    if sender != broker_user(heartbeat.name):
        return False
    now = timezone.now()
    speaking = Host.objects.speaking(now, settings.HOST_SILENT_SECONDS)
    same = speaking.filter(name=heartbeat.name, uuid=heartbeat.uuid, revoked_at=None)
    if heartbeat.facts.get("tunnel_key"):
        same = same.exclude(tunnel_ip=None)
    known = {name: fact for name, fact in heartbeat.facts.items() if name not in _FLUCTUATING}
    fresh = {name: fact for name, fact in heartbeat.facts.items() if name in _FLUCTUATING}
    return bool(same.filter(**known).update(last_heartbeat=now, **fresh))


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
        if host is None or host.revoked_at:
            log.error("heartbeat of an unknown or revoked host dropped", host=heartbeat.name)
            return None
        if host.uuid not in (None, heartbeat.uuid):
            log.error("second machine refused", host=host.name, uuid=str(heartbeat.uuid))
            # Once: whoever makes up ever other ones must not fill the trail, which keeps all.
            if host.refused_uuid is None:
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
            for field, value in _credible(heartbeat.facts, host).items():
                setattr(host, field, value)
            _give_tunnel_ip(host)
            host.save(update_fields=["uuid", "last_heartbeat", "tunnel_ip", *heartbeat.facts])
    return host, returned


@dataclass(frozen=True)
class Stranger:
    """What is known of a host whose heartbeat control did not understand, and why it did not."""

    name: str
    uuid: str
    agent_version: str
    code: str
    message: str


def record_stranger(stranger: Stranger, sender: str) -> Host | None:
    """Note it among the host's problems; answers the host, None if the sender is another one.

    It claims nothing, and does not count as speaking.
    """
    if sender != broker_user(stranger.name):
        log.error("heartbeat under a foreign name dropped", host=stranger.name, sender=sender)
        return None
    with transaction.atomic():
        host = Host.objects.select_for_update(no_key=True).filter(name=stranger.name).first()
        if host is None or host.revoked_at or host.uuid not in (None, uuid.UUID(stranger.uuid)):
            log.error("heartbeat of an unknown or revoked host dropped", host=stranger.name)
            return None
        host.agent_version = stranger.agent_version
        host.problems = [{"code": stranger.code, "message": stranger.message}]
        host.save(update_fields=["agent_version", "problems"])
    return host


def _credible(facts: dict[str, Any], host: Host) -> dict[str, Any]:
    """The facts, with the tunnel key that is known if the one they name is another host's."""
    key = facts.get("tunnel_key")
    if key and Host.objects.exclude(pk=host.pk).filter(tunnel_key=key).exists():
        log.error("tunnel key of another host refused", host=host.name)
        return {**facts, "tunnel_key": host.tunnel_key}
    return facts


def _give_tunnel_ip(host: Host) -> None:
    """A host of the mesh gets its own address there: the one of its number, and keeps it."""
    if not host.tunnel_key or host.tunnel_ip:
        return
    tunnels = ip_network(settings.TUNNEL_RANGE)
    if host.pk >= tunnels.num_addresses - 1:
        log.error("no address in the mesh: widen CUMULET_TUNNEL_RANGE", host=host.name)
        return
    host.tunnel_ip = str(tunnels[host.pk])


def _url_for(name: str, password: str) -> str:
    parts = urlsplit(settings.HOST_BROKER_URL)
    user = f"{quote(broker_user(name), safe='')}:{quote(password, safe='')}"
    address = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{user}@{address}{parts.path}"
