"""Cut a machine off from the cloud, which is not trusted any more or is gone for good."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cloud.errors import CumuletError
from cloud.models import Host
from vms.private.hosts import cut_off


class Command(BaseCommand):
    help = (
        "Cut a host off: its join bundle is void, what it says is dropped, and no other host"
        " talks to it within private networks. Its servers stay in the inventory. `host_add"
        " --again` takes it back."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        host = Host.objects.filter(name=options["name"]).first()
        if host is None:
            raise CommandError(f"no host {options['name']!r}")
        try:
            cut_off(host)
        except CumuletError as error:
            raise CommandError(
                f"its peers are told, but its way to the broker is still open: {error.message};"
                " then repeat this"
            ) from error
        self.stdout.write(f"host {host} is cut off")
