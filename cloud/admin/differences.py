"""What a host's page says of its drift; the list itself is `vms.admin.drift`."""

from __future__ import annotations

from django.utils import timezone

from cloud.admin.display import ago, link, list_url
from cloud.admin.page import Cell, Table
from cloud.drift import Drift, Survey
from cloud.models import Host


def drift_table(host: Host) -> Table:
    standing = host.drift.standing().order_by("first_seen")[:20]
    rows: list[list[Cell]] = [
        [
            link(row, row.name),
            row.kind,
            row.direction,
            row.verb.replace("_", " "),
            ago(row.first_seen),
        ]
        for row in standing
    ]
    headers = ("Difference", "Kind", "Side", "Would be done", "Seen first")
    more = list_url(Drift, f"?host__id__exact={host.pk}")
    return Table("Drift", headers, rows, _looked(host), more_url=more)


def _looked(host: Host) -> str:
    """What no differences mean."""
    survey = Survey.objects.filter(host=host).first()
    if survey is None or survey.at is None:
        return "It has not said yet what it has: nothing is known."
    unseen = f" It could not look at: {', '.join(survey.unseen)}." if survey.unseen else ""
    return (
        f"It has just what the inventory says, as of {timezone.localtime(survey.at):%F %T}.{unseen}"
    )
