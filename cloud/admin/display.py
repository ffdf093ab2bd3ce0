"""Values as a person reads them: badges, times in words, bars, sizes. Markup only, no queries."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from django.contrib.humanize.templatetags.humanize import naturaltime
from django.db.models import Model
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

NOTHING = mark_safe('<span class="c-faint">&ndash;</span>')


class Tone(StrEnum):
    """What a colour says; the stylesheet knows which colour that is."""

    GOOD = "good"
    IDLE = "idle"
    BUSY = "busy"
    WARN = "warn"
    BAD = "bad"
    UNSURE = "unsure"


# Servers, actions and images share one vocabulary, so one word has one colour everywhere.
_STATES = {
    "running": Tone.GOOD,
    "off": Tone.IDLE,
    "initializing": Tone.BUSY,
    "starting": Tone.BUSY,
    "stopping": Tone.WARN,
    "deleting": Tone.BAD,
    "unknown": Tone.UNSURE,
    "creating": Tone.BUSY,
    "available": Tone.GOOD,
    "unavailable": Tone.BAD,
}
_MOVING = {"initializing", "starting", "stopping", "deleting", "creating"}


def badge(text: str, tone: Tone, *, moving: bool = False, hint: str = "") -> SafeString:
    """A coloured word; `moving` lets its dot pulse, `hint` appears when pointed at."""
    return format_html(
        '<span class="c-badge c-{}{}" title="{}">{}</span>',
        tone,
        " c-moving" if moving else "",
        hint,
        text,
    )


def state(word: str, hint: str = "") -> SafeString:
    """The badge of a server's or an image's status."""
    return badge(word, _STATES.get(word, Tone.IDLE), moving=word in _MOVING, hint=hint)


def state_tone(word: str) -> Tone:
    return _STATES.get(word, Tone.IDLE)


def live(key: str, content: str) -> SafeString:
    """Content that the page replaces by itself; `key` is unique on the page."""
    return format_html('<span id="{}" data-live>{}</span>', key, content)


def ago(moment: datetime | None) -> SafeString:
    """A time in words, with the exact time when pointed at."""
    if moment is None:
        return NOTHING
    return format_html(
        '<time class="c-time" datetime="{}" title="{}">{}</time>',
        moment.isoformat(timespec="seconds"),
        f"{timezone.localtime(moment):%A, %d %B %Y, %H:%M:%S %Z}",
        _without_detail(naturaltime(moment)),
    )


def lasted(span: timedelta) -> str:
    """A duration with at most two units: "0.4 s", "12 s", "3 min 5 s", "2 h 10 min"."""
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days"


def bar(
    used: float, total: float, label: str, *, hint: str = "", tone: Tone | None = None
) -> SafeString:
    """How full something is; without a tone amber from three quarters, red from nine tenths."""
    share = min(used / total, 1.0) if total else 0.0
    if tone is None:
        tone = Tone.BAD if share >= 0.9 else Tone.WARN if share >= 0.75 else Tone.BUSY
    return format_html(
        '<span class="c-bar" title="{}"><span class="c-bar-track">'
        '<span class="c-bar-fill c-{}" style="width: {}%"></span></span>'
        '<span class="c-bar-label">{}</span></span>',
        hint or f"{share:.0%}",
        tone,
        round(share * 100),
        label,
    )


def mib(size: int) -> str:
    """MiB in the largest unit that keeps it readable."""
    return f"{size} MiB" if size < 1024 else f"{_short(size / 1024)} GiB"


def byte_size(size: int) -> str:
    """Bytes in binary units."""
    value = float(size)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{_short(value)} {unit}"
        value /= 1024
    return f"{_short(value)} GiB"


def code(text: object) -> SafeString:
    """Something to be copied literally: an address, an id, a fingerprint."""
    return format_html('<code class="c-code">{}</code>', text) if text else NOTHING


def faint(text: object) -> SafeString:
    return format_html('<span class="c-faint">{}</span>', text)


def stacked(first: object, second: object) -> SafeString:
    """Two lines, the second one quieter."""
    return format_html('<span class="c-two">{}<small>{}</small></span>', first, second)


def lines(parts: Iterable[SafeString]) -> SafeString:
    """Each on its own line."""
    return format_html_join(mark_safe("<br>"), "{}", ((part,) for part in parts)) or NOTHING


def link(target: Model | None, text: object = None) -> SafeString:
    """A link to the page of a row."""
    if target is None:
        return NOTHING
    return format_html('<a class="c-link" href="{}">{}</a>', page_url(target), text or target)


def page_url(target: Model) -> str:
    meta = target._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[target.pk])


def list_url(model: type[Model], query: str = "") -> str:
    meta = model._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist") + query


def labels(pairs: dict[str, str]) -> SafeString:
    """Labels as chips."""
    if not pairs:
        return NOTHING
    chips = (
        format_html('<span class="c-chip">{}<b>{}</b></span>', key, value)
        for key, value in sorted(pairs.items())
    )
    return mark_safe(" ".join(chips))


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _without_detail(words: str) -> str:
    """The first unit only: "2 hours, 3 minutes ago" becomes "2 hours ago"."""
    head, comma, _ = words.partition(",")
    ending = "from now" if words.endswith("from now") else "ago"
    return f"{head} {ending}" if comma else words
