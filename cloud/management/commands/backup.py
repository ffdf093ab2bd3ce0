"""Write the inventory into a file."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cloud.backup import archive
from cloud.errors import CumuletError


class Command(BaseCommand):
    help = (
        "Write the whole inventory, as it is at one moment, into FILE, while the cloud works. FILE"
        " holds secrets (password hashes, digests of tokens, users' scripts, the key of the cloud's"
        " certificate authority), so it is readable by you alone: keep it so."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--force", action="store_true", help="replace FILE if it exists")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            manifest = archive.write(options["file"], force=options["force"])
        except CumuletError as error:
            raise CommandError(f"{error.code}: {error.message}") from error
        counted = ", ".join(f"{number} {name}" for name, number in manifest.rows.items())
        self.stdout.write(f"{options['file']}: {counted}; {manifest.bytes} bytes, read back")
        self.stdout.write("It holds secrets: keep it where nobody else can read it")
