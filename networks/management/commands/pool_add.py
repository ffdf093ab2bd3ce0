"""Add a pool of public addresses."""

from argparse import ArgumentParser
from ipaddress import ip_address, ip_network
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError, transaction

from cloud.models import Location
from networks.models import Network


class Command(BaseCommand):
    help = "Add a pool of public IPv4 addresses for the servers of a location. Safe to repeat."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("cidr")
        parser.add_argument("--location", required=True)
        parser.add_argument("--exclude", nargs="*", default=[], help="addresses never to lend")
        parser.add_argument("--dns", nargs="*", default=[], help="resolvers for the guests")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            cidr = ip_network(options["cidr"])
            excluded = [str(ip_address(text)) for text in options["exclude"]]
            dns = [str(ip_address(text)) for text in options["dns"]]
        except ValueError as error:
            raise CommandError(str(error)) from error
        if cidr.version != 4:
            raise CommandError(f"{cidr} is not IPv4: public pools are IPv4 for now")
        location = Location.objects.filter(name=options["location"]).first()
        if location is None:
            raise CommandError(
                f"no location {options['location']!r}: add it with `manage.py location_add`"
            )
        wanted = {"location": location, "excluded": excluded, "dns": dns}
        try:
            with transaction.atomic():
                pool, _ = Network.objects.update_or_create(
                    name=options["name"],
                    kind=Network.Kind.PUBLIC,
                    ip_range=str(cidr),
                    defaults=wanted,
                )
        except IntegrityError as error:
            raise CommandError(
                f"{cidr} overlaps a pool, or the name {options['name']!r} is taken by another range"
            ) from error
        self.stdout.write(f"pool {pool}: {cidr.num_addresses - 2 - len(excluded)} addresses")
