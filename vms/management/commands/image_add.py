"""Register a base image."""

from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from cloud.errors import CumuletError
from vms.images import read_manifest, register_image


class Command(BaseCommand):
    help = (
        "Register the image of an image.json, as `python -m deploy.images` writes it. Hosts fetch"
        " it within seconds; an image of the same name and other content is replaced."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("manifest", type=Path)
        parser.add_argument(
            "--url-base", help="http(s) address of the manifest's folder (default: the local file)"
        )
        parser.add_argument("--name", help="register it under another name")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            manifest = read_manifest(options["manifest"], options["url_base"])
            if options["name"]:
                manifest = replace(manifest, name=options["name"])
            image, new = register_image(manifest)
        except CumuletError as error:
            raise CommandError(error.message) from error
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f"image {image} #{image.pk} {'registered' if new else 'is known'}")
