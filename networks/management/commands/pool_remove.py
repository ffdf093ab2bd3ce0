"""Remove a pool of public addresses that never lent one."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cloud.errors import CumuletError
from networks.models import Network
from networks.pools import remove_pool


class Command(BaseCommand):
    help = "Remove a pool of public addresses; refused while anything of it is in use."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        network = Network.objects.public().filter(name=options["name"]).first()
        if network is None:
            raise CommandError(f"no pool {options['name']!r}: see the admin's list of networks")
        try:
            remove_pool(network)
        except CumuletError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"pool {options['name']} is removed")
