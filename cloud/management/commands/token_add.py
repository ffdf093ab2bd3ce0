"""Issue an API token."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from cloud.audit import created
from cloud.errors import CumuletError
from cloud.models import Project
from cloud.tokens import issue_token


class Command(BaseCommand):
    help = "Issue an API token and print it; it cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", help="made if there is none of this name")
        parser.add_argument("name")
        parser.add_argument("--read-only", action="store_true")
        parser.add_argument(
            "--operator",
            action="store_true",
            help="may also see hosts, drift, dead letters and the audit trail",
        )
        parser.add_argument(
            "--requests-per-hour", type=int, help="its own limit (default: that of all tokens)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        an_hour = options["requests_per_hour"]
        if an_hour is not None and not 1 <= an_hour < 2**31:
            raise CommandError("--requests-per-hour must be at least 1")
        with transaction.atomic():
            project, new = Project.objects.get_or_create(name=options["project"])
            if new:
                created(project)
        try:
            secret = issue_token(
                project,
                options["name"],
                read_only=options["read_only"],
                operator=options["operator"],
                requests_per_hour=an_hour,
            )
        except CumuletError as error:
            raise CommandError(error.message) from error
        self.stdout.write(secret)
