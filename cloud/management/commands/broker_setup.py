"""Make the cloud's exchanges and queues."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from cloud.broker import Administration, declare_cloud, declare_host
from cloud.models import Host


class Command(BaseCommand):
    help = "Make the exchanges and queues of the cloud and of every host. Safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        declare_cloud(settings.BROKER_URL)
        Administration(settings.BROKER_API_URL, settings.BROKER_URL).ensure_policies()
        for host in Host.objects.all():
            declare_host(settings.BROKER_URL, host.name)
        self.stdout.write("exchanges and queues are there")
