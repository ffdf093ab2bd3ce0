"""Let a machine join the cloud: its row, its broker user, its join bundle."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from cloud import files
from cloud.errors import CumuletError
from cloud.hosts import add_host
from cloud.models import Host, Location


class Command(BaseCommand):
    help = (
        "Let a machine join the cloud. Writes the join bundle that its agent starts from; the"
        " file holds a password, so it is readable by you alone."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="up to 32 lower-case letters, digits and hyphens")
        parser.add_argument("--location", required=True)
        parser.add_argument("--bundle", type=Path, help="where to write it (default: NAME.json)")
        parser.add_argument(
            "--again", action="store_true", help="make a new password; the old bundle is void"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        path: Path = options["bundle"] or Path(f"{name}.json")
        if Host.objects.filter(name=name).exists() and path.exists() and not options["again"]:
            self.stdout.write(f"host {name} is known, its bundle is {path}")
            return
        location = Location.objects.filter(name=options["location"]).first()
        if location is None:
            raise CommandError(
                f"no location {options['location']!r}: add it with `manage.py location_add`"
            )
        try:
            bundle = add_host(name, location)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        except CumuletError as error:
            raise CommandError(error.message) from error
        text = json.dumps(bundle, indent=2) + "\n"
        files.write(path, text.encode(), alone=True)
        self.stdout.write(f"host {name} may join: copy {path} to it and start its agent")
