"""Add a location, or change the description of one."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from cloud.audit import changing
from cloud.models import Location


class Command(BaseCommand):
    help = "Add a location, or change the description of one. Safe to repeat."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--description", default="")
        parser.add_argument("--city", default="")
        parser.add_argument("--country", default="DE", help="ISO 3166-1 alpha-2")

    def handle(self, *args: Any, **options: Any) -> None:
        location = Location.objects.filter(name=options["name"]).first()
        location = location or Location(name=options["name"])
        with transaction.atomic(), changing(location):
            for field in ("description", "city", "country"):
                setattr(location, field, options[field])
            location.full_clean()
            location.save()
        self.stdout.write(f"location {location}")
