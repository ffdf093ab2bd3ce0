"""What the broker knows of hosts that a restored inventory does not, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.db import transaction

from cloud.broker import Administration, declare_cloud, declare_host
from cloud.hosts import revoke_host
from cloud.models import Host


def meet_broker() -> Iterator[str]:
    """Make the queues that are missing, and say in words what does not fit; raises BrokerRefused.

    A host without a user there was cut off after the backup, or the broker is a new one: it stays
    cut off. One that only the broker knows joined after the backup.
    """
    declare_cloud(settings.BROKER_URL)
    administration = Administration(settings.BROKER_API_URL, settings.BROKER_URL)
    administration.ensure_policies()
    users = administration.hosts()
    for host in Host.objects.filter(revoked_at=None).order_by("name"):
        declare_host(settings.BROKER_URL, host.name)
        if host.name not in users:
            with transaction.atomic():
                revoke_host(host)
            yield (
                f"host {host} is cut off, as the broker has no user for it: `host_add {host}"
                f" --location {host.location} --again` takes it back"
            )
    for name in sorted(users - set(Host.objects.values_list("name", flat=True))):
        yield (
            f"host {name} joined after the backup, its servers run on and are unknown: make no"
            f" server before `host_add {name} --location LOCATION --again` took it back"
        )
