"""Cut a machine off from the cloud, which is not trusted any more or is gone for good."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cloud.broker import BrokerRefused
from cloud.errors import CumuletError
from cloud.models import Host
from vms.losses import check_silent, write_off
from vms.models import VM
from vms.private.hosts import cut_off


class Command(BaseCommand):
    help = (
        "Cut a host off: its join bundle is void, what it says is dropped, and no other host"
        " talks to it within private networks. Its servers stay in the inventory. `host_add"
        " --again` takes it back."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument(
            "--destroyed",
            action="store_true",
            help="its machine and all disks are gone for good: also forget its servers, at once and"
            " for ever, and free what they had; the name is free for another machine",
        )
        parser.add_argument(
            "--yes", action="store_true", help="with --destroyed: do not ask for confirmation"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        host = Host.objects.filter(name=options["name"]).first()
        if host is None:
            raise CommandError(f"no host {options['name']!r}")
        if options["destroyed"]:
            self._write_off(host, asked=options["yes"])
            return
        try:
            cut_off(host)
        except BrokerRefused as error:
            raise CommandError(_half_done(error)) from error
        self.stdout.write(f"host {host} is cut off")

    def _write_off(self, host: Host, *, asked: bool) -> None:
        try:
            check_silent(host)
            if not (asked or self._confirmed(host)):
                raise CommandError("nothing was done")
            count = write_off(host)
        except BrokerRefused as error:
            raise CommandError(_half_done(error)) from error
        except CumuletError as error:
            raise CommandError(error.message) from error
        self.stdout.write(
            f"host {host} is written off, and its {count} servers are forgotten; `host_add {host}"
            f" --location {host.location} --again` lets another machine join under its name"
        )

    def _confirmed(self, host: Host) -> bool:
        """Whether somebody at a terminal types the host's name."""
        names = list(VM.objects.filter(host=host).order_by("name").values_list("name", flat=True))
        self.stdout.write(
            f"This forgets the {len(names)} servers of host {host} for ever, protected ones too,"
            f" and lends their addresses to others: {', '.join(names) or 'none'}."
        )
        if not sys.stdin.isatty():
            raise CommandError("nobody is there to confirm it: repeat this with --yes")
        return input("If the machine is gone for good, type its name: ").strip() == host.name


def _half_done(error: BrokerRefused) -> str:
    return (
        f"its peers are told, but its way to the broker is still open: {error.message}; then repeat"
        " this"
    )
