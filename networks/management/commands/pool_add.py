"""Add a pool of public addresses."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cloud.errors import CumuletError
from cloud.models import Location
from networks.pools import Pool, ensure_pool, usable


class Command(BaseCommand):
    help = "Add a pool of public IPv4 addresses for the servers of a location. Safe to repeat."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("cidr")
        parser.add_argument("--location", required=True)
        parser.add_argument("--exclude", nargs="*", default=[], help="addresses never to lend")
        parser.add_argument("--dns", nargs="*", default=[], help="resolvers for the guests")

    def handle(self, *args: Any, **options: Any) -> None:
        location = Location.objects.filter(name=options["location"]).first()
        if location is None:
            raise CommandError(
                f"no location {options['location']!r}: add it with `manage.py location_add`"
            )
        pool = Pool(
            name=options["name"],
            cidr=options["cidr"],
            location=location,
            excluded=tuple(options["exclude"]),
            dns=tuple(options["dns"]),
        )
        try:
            network = ensure_pool(pool)
        except CumuletError as error:
            raise CommandError(error.message) from error
        self.stdout.write(f"pool {network}: {usable(network)} addresses")
