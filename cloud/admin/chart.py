"""Small charts as inline SVG: how something went lately, without a script and without a library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

_WIDTH, _HEIGHT = 240, 48

# (when, from 0 to 1; value), in the order of time.
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One line of a chart; `latest` is its last value in words."""

    label: str
    points: Points
    latest: str


@dataclass(frozen=True)
class Chart:
    """Lines on one scale, from 0 to `most` or to their own maximum if that is more.

    A gap longer than `gap` (a share of the width) is left open: nothing is known of it.
    """

    title: str
    lines: Sequence[Line]
    most: float = 0.0
    gap: float = 0.1

    @property
    def svg(self) -> SafeString:
        top = max([self.most, *(value for line in self.lines for _, value in line.points)]) or 1.0
        paths = format_html_join(
            "",
            '<path class="c-line-{}" d="{}"/>',
            ((number, self._path(line.points, top)) for number, line in enumerate(self.lines)),
        )
        return format_html(
            '<svg class="c-chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"'
            ' aria-label="{}">{}</svg>',
            _WIDTH,
            _HEIGHT,
            self.title,
            paths,
        )

    def _path(self, points: Points, top: float) -> str:
        words = []
        before = -1.0
        for when, value in points:
            joined = before >= 0 and when - before <= self.gap
            # One pixel of room, so that a line at the edge keeps its width.
            x, y = when * _WIDTH, (_HEIGHT - 2) * (1 - value / top) + 1
            # A point alone is drawn as a dot: a line of no length with round ends.
            words.append(f"L{x:.1f} {y:.1f}" if joined else f"M{x:.1f} {y:.1f}h0")
            before = when
        return "".join(words)
