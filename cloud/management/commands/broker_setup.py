"""Make the cloud's exchanges and queues."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from cloud.broker import Administration, declare_cloud, declare_host
from cloud.models import Host


class Command(BaseCommand):
    help = (
        "Make the exchanges and queues of the cloud and of every host, and give the hosts' users"
        " their permissions. Safe to repeat."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        declare_cloud(settings.BROKER_URL)
        administration = Administration(settings.BROKER_API_URL, settings.BROKER_URL)
        administration.ensure_policies()
        users = administration.hosts()
        for host in Host.objects.all():
            declare_host(settings.BROKER_URL, host.name)
            # What an earlier release let its user do may be more than hosts may do by now.
            if host.name in users:
                administration.ensure_permissions(host.name)
        self.stdout.write("exchanges and queues are there")
