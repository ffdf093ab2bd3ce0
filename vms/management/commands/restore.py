"""Put a backup in the place of the inventory."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cloud.backup.restoring import Steps, restore
from cloud.errors import CumuletError
from vms.restored.apart import Marks, set_apart
from vms.restored.broker import meet_broker


class Command(BaseCommand):
    help = (
        "Restore the inventory from FILE, which `backup` wrote. Nothing that runs is touched: until"
        " a host has said what it has, it is told nothing, and no address is lent. Stop web,"
        " control, beat and flower before, and start them afterwards. Tokens and administrators"
        " that were removed since the backup are there again: look through them."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--replace",
            action="store_true",
            help="also if there is an inventory, which is written to a backup beside FILE first",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        steps = Steps(
            read=Marks.of_database,
            apart=lambda marks, made_at: set_apart(marks or Marks(), made_at),
        )
        try:
            restored = restore(options["file"], steps, replace=options["replace"])
        except CumuletError as error:
            raise CommandError(f"{error.code}: {error.message}; nothing was changed") from error
        if restored.saved:
            self.stdout.write(f"what was there before is in {restored.saved}")
        count = restored.result
        self.stdout.write(
            f"restored the inventory of {restored.manifest.made_at:%Y-%m-%d %H:%M:%S} UTC:"
            f" {count.servers} servers on {count.hosts} hosts, {count.actions} actions ended"
        )
        try:
            for advice in meet_broker():
                self.stdout.write(advice)
        except CumuletError as error:
            raise CommandError(
                f"the inventory is restored, but the broker is not ready: {error.message}; then run"
                " `manage.py broker_setup`"
            ) from error
        self.stdout.write(
            "now start web, control, beat and flower (`deploy/manage` does it by itself); then see"
            " `drift` for what differs"
        )
