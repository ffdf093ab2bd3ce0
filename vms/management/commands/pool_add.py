"""Add a pool of public addresses."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cloud.errors import CumuletError
from cloud.models import Location, Project
from networks.allocation import leads_nowhere
from networks.models import Network
from networks.pools import Pool, usable
from vms.pools import ensure_pool


class Command(BaseCommand):
    help = (
        "Add a pool of public addresses for the servers of a location. IPv6 is lent in networks"
        " of /64. Safe to repeat."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("cidr", help="IPv4, or IPv6 from /32 to /64")
        parser.add_argument("--location", required=True)
        parser.add_argument("--exclude", nargs="*", default=[], help="never to be lent")
        parser.add_argument(
            "--mode",
            choices=Network.Mode.values,
            default=Network.Mode.ROUTED.value,
            help="behind the hosts, or the network of their uplinks",
        )
        parser.add_argument("--gateway", help="of a bridged pool")
        parser.add_argument(
            "--dhcp", action="store_true", help="a bridged pool's own DHCP gives the addresses"
        )
        parser.add_argument("--owner", help="the only project that borrows from it")
        parser.add_argument("--dns", nargs="*", default=[], help="resolvers for the guests")

    def handle(self, *args: Any, **options: Any) -> None:
        location = Location.objects.filter(name=options["location"]).first()
        if location is None:
            raise CommandError(
                f"no location {options['location']!r}: add it with `manage.py location_add`"
            )
        owner = Project.objects.filter(name=options["owner"]).first()
        if options["owner"] and owner is None:
            raise CommandError(f"no project {options['owner']!r}")
        pool = Pool(
            name=options["name"],
            cidr=options["cidr"],
            location=location,
            excluded=tuple(options["exclude"]),
            dns=tuple(options["dns"]),
            mode=options["mode"],
            gateway=options["gateway"],
            dhcp=options["dhcp"],
            owner=owner,
        )
        try:
            network = ensure_pool(pool)
        except CumuletError as error:
            raise CommandError(error.message) from error
        what = "networks of /64" if network.ip_range.version == 6 else "addresses"
        lent = "addresses by outside DHCP" if network.dhcp else f"{usable(network)} {what}"
        self.stdout.write(f"pool {network}: {lent}")
        if leads_nowhere(network):
            self.stdout.write(
                f"no host there can use it yet: `deploy/host prepare-tap USER --pool"
                f" {network.ip_range}` on one of them prints what root has to do"
            )
