"""An Action's course as a bar chart in time: one lane a step."""

from __future__ import annotations

from datetime import timedelta

from django.utils.html import format_html
from django.utils.safestring import SafeString

from cloud.admin.display import NOTHING, Tone, badge, code, lasted, stacked
from cloud.admin.page import Cell, Table
from cloud.models import Action
from cloud.timeline import Bar, Timeline, timeline_of

# What people read for a step's name.
_WORDS = {
    "placed": "Placed",
    "queued": "Waited for its host",
    "image": "Image",
    "disk": "Disk",
    "links": "Links and rules",
    "qemu": "QEMU",
    "guest": "Guest",
}


def timeline_tables(action: Action) -> list[Table]:
    """The chart, and why no other host was chosen."""
    timeline = timeline_of(action)
    tables = [
        Table(
            "Timeline",
            ("Step", "Host", _axis(timeline), "Took", "Attempt", "Outcome"),
            [_row(timeline, bar) for bar in timeline.bars],
            "Nothing happened that took time.",
        )
    ]
    if timeline.passed_over:
        rows: list[list[Cell]] = [[host, why] for host, why in sorted(timeline.passed_over.items())]
        tables.append(Table("Why not another host", ("Host", "Reason"), rows, ""))
    return tables


def _row(timeline: Timeline, bar: Bar) -> list[Cell]:
    step = bar.step
    return [
        _WORDS.get(step.name, step.name),
        step.host,
        _lane(timeline, bar),
        lasted_precisely(bar.seconds),
        step.attempt,
        _outcome(bar),
    ]


def _axis(timeline: Timeline) -> SafeString:
    return format_html(
        '<span class="c-axis"><span>0 s</span><span>{}</span></span>',
        lasted_precisely(timeline.seconds),
    )


def _lane(timeline: Timeline, bar: Bar) -> SafeString:
    """Offsets are percent of the whole; the stylesheet keeps a short bar visible."""
    after = lasted_precisely((bar.started - timeline.began).total_seconds())
    return format_html(
        '<span class="c-lane" title="{}"><span class="c-lane-bar c-{}{}"'
        ' style="left: {}%; width: {}%"></span></span>',
        f"after {after}, for {lasted_precisely(bar.seconds)}",
        _tone(bar),
        " c-moving" if bar.under_way else "",
        f"{bar.left:.2f}",
        f"{bar.width:.2f}",
    )


def _tone(bar: Bar) -> Tone:
    if bar.failed:
        return Tone.BAD
    return Tone.BUSY if bar.under_way else Tone.GOOD


def _outcome(bar: Bar) -> Cell:
    step = bar.step
    if bar.failed:
        return stacked(badge("failed", Tone.BAD, hint=step.error_message), code(step.error_code))
    return badge("under way", Tone.BUSY, moving=True) if bar.under_way else NOTHING


def lasted_precisely(seconds: float) -> str:
    """Like `lasted`, but in milliseconds where these matter."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else lasted(timedelta(seconds=seconds))
