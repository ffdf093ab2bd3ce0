"""Print the whole story of one request."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from cloud import requestid
from cloud.story import text
from cloud.story.sources import tell


class Command(BaseCommand):
    help = (
        "Print what is known of one request, in order: what the database says, what web and control"
        " logged, and what every host logged, which is asked for it. Reads the logs below"
        " CUMULET_LOG_PATHS and the journal, so run it as somebody who may."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("request_id", help="as in the answer's header X-Request-ID")
        parser.add_argument("--json", action="store_true", help="print JSON lines")

    def handle(self, *args: Any, **options: Any) -> None:
        request_id = options["request_id"]
        if not requestid.is_usable(request_id):
            raise CommandError(
                f"{request_id!r} is no request id: those are up to {requestid.MAX_LENGTH} letters,"
                " digits and characters of ._:=;/+-"
            )
        story = tell(request_id)
        if not story.moments:
            missing = "".join(f"\nMissing: {gap}" for gap in story.gaps)
            raise CommandError(f"no row and no log knows request {request_id}{missing}")
        lines = (
            text.for_programs(story)
            if options["json"]
            else text.for_people(request_id, story, self.style.ERROR)
        )
        for line in lines:
            self.stdout.write(line)
