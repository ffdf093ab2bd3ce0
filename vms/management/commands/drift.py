"""List every difference between the inventory and hosts, and heal what is safe to heal."""

import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from cloud.drift import GRACE, Drift, Survey
from cloud.models import Host
from vms.drift import repair, table
from vms.drift.treatment import Verb

_ANSWER_SECONDS = 15.0
# Guests are started meanwhile.
_REPAIR_SECONDS = 60.0
_POLL_SECONDS = 0.2


class Command(BaseCommand):
    help = (
        "Ask hosts what they have, and list every difference to the inventory with its age, and"
        " what would be done about it. Ends with 1 if there is any, with 0 if there is none, as"
        " diff does. What a host that does not answer has is unknown, and no difference."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", help="of this host only")
        parser.add_argument("--json", action="store_true", help="print JSON lines")
        parser.add_argument(
            "--repair", action="store_true", help="say what would be done, ask, and do it"
        )
        parser.add_argument("--yes", action="store_true", help="do it without asking")
        parser.add_argument("--kept", action="store_true", help="list what is marked as known, too")

    def handle(self, *args: Any, **options: Any) -> None:
        hosts = self._hosts(options["host"])
        self._look(hosts)
        rows = self._rows(hosts, kept=options["kept"])
        if options["repair"] and self._repair(hosts, rows, sure=options["yes"]):
            rows = self._rows(hosts, kept=options["kept"])
        lines = table.for_programs(rows) if options["json"] else table.for_people(rows)
        for line in lines:
            self.stdout.write(line)
        if any(row.kept_at is None for row in rows):
            raise SystemExit(1)

    def _hosts(self, name: str | None) -> list[Host]:
        hosts = Host.objects.filter(revoked_at=None).exclude(uuid=None)
        if name is None:
            return list(hosts)
        found = hosts.filter(name=name).first()
        if found is None:
            raise CommandError(f"no host {name!r} has joined: see `manage.py drift` for all")
        return [found]

    def _look(self, hosts: list[Host]) -> None:
        """Have those that speak look now; what is said of the others is as old as it is."""
        now = timezone.now()
        silent = [one for one in hosts if one.is_silent(now, settings.HOST_SILENT_SECONDS)]
        for host in silent:
            since = f"since {host.last_heartbeat}" if host.last_heartbeat else "so far"
            self._say(f"{host} is silent {since}: what it has is unknown")
        before = self._surveys(hosts)
        asked = repair.ask_to_look(host for host in hosts if host not in silent)
        waiting = {host.pk: host for host in asked}

        def all_told() -> bool:
            for pk, seq in self._surveys(waiting.values()).items():
                if seq != before.get(pk):
                    waiting.pop(pk, None)
            return not waiting

        if self.stderr.isatty():
            self._say(f"waiting for the word of {', '.join(map(str, asked)) or 'no host'}")
        _wait(all_told, _ANSWER_SECONDS)
        unheard = {host for host in hosts if host not in silent and host not in asked}
        for host in (*waiting.values(), *sorted(unheard, key=str)):
            self._say(f"{host} did not answer in time: listed is what it said before, if anything")
        for survey in Survey.objects.filter(host__in=hosts).select_related("host"):
            for line in table.limits(survey):
                self._say(line)

    def _repair(self, hosts: list[Host], rows: list[Drift], *, sure: bool) -> bool:
        """Whether anything was done."""
        if any(Verb(row.verb).removes and not row.confirmed for row in rows):
            self._say(
                f"looking again in {GRACE.total_seconds():g} s, as what is removed must stand"
            )
            time.sleep(GRACE.total_seconds())
            self._look(hosts)
            rows = self._rows(hosts, kept=False)
        orders = repair.plan(row for row in rows if row.kept_at is None)
        if not orders:
            self._say("nothing that is safe to repair")
            return False
        self._say("This would be done:")
        for order in orders:
            self._say(f"  {order}")
            for row in order.rows:
                self._say(f"      {row.direction} {row.kind} {row.name}: {row.reason}")
        if not sure and not _agreed():
            self._say("nothing was done")
            return False
        sent = repair.carry_out(orders)
        self._say(f"{sent} of {len(orders)} are on their way")
        acted_on = {row.pk for order in orders for row in order.rows}

        def healed() -> bool:
            self._look(hosts)
            return not Drift.objects.standing().filter(pk__in=acted_on).exists()

        _wait(healed, _REPAIR_SECONDS, pause=1.0)
        return True

    def _rows(self, hosts: list[Host], *, kept: bool) -> list[Drift]:
        rows = Drift.objects.open() if kept else Drift.objects.standing()
        return list(rows.filter(host__in=hosts).select_related("host"))

    def _surveys(self, hosts: Any) -> dict[int, int]:
        return dict(Survey.objects.filter(host__in=list(hosts)).values_list("host", "seq"))

    def _say(self, text: str) -> None:
        """To people, so that what programs read is the list alone."""
        self.stderr.write(text, self.style.NOTICE if self.stderr.isatty() else None)


def _agreed() -> bool:
    try:
        return input("Do it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # nobody is there to be asked
        return False


def _wait(condition: Callable[[], bool], seconds: float, *, pause: float = _POLL_SECONDS) -> None:
    """Until it holds, or so long."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(pause)
