"""What a host without any privilege gives, and what it lacks, as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from cloud.admin.display import NOTHING, Tone, badge, code
from cloud.admin.page import Callout, Card, Fact
from cloud.models import Host


def mode_badges(host: Host) -> SafeString:
    """That it is in user mode, and whether it lacks anything."""
    mode = badge("user mode", Tone.IDLE, hint="Its agent runs without any privilege.")
    lacking = badge("lacks something", Tone.WARN, hint="Its page says what, and what mends it.")
    shown = [*([mode] if host.in_user_mode else []), *([lacking] if host.problems else [])]
    return format_html_join(" ", "{}", ((one,) for one in shown))


def problem_callouts(host: Host) -> list[Callout]:
    """One for each thing that it lacks; the message has the command that mends it."""
    return [
        Callout(Tone.WARN, f"It lacks something: {problem['code']}", problem["message"])
        for problem in host.problems
    ]


def user_mode_cards(host: Host) -> list[Card]:
    """None for a host that has privileges."""
    if not host.in_user_mode:
        return []
    ports = f"{host.first_forward_port}-{host.last_forward_port}" if host.last_forward_port else ""
    return [
        Card(
            "User mode",
            [
                Fact(
                    "Forwarded at", code(host.forward_ip), "Where its servers' ports are reached."
                ),
                Fact("Forwarded ports", code(ports), "Of these, each server gets its own."),
                Fact("Led to its TAP", _codes(host.public_ranges), "By root, once; see README."),
                Fact("Cables", "yes" if host.cables else "no", "To private networks elsewhere."),
                Fact("Accepts cables at", code(host.cable_endpoint)),
            ],
            icon="person",
            note="Its agent has no privileges: no firewalls, no limits, no bridged addresses.",
        )
    ]


def _codes(texts: Sequence[str]) -> SafeString:
    return format_html_join(" ", "{}", ((code(text),) for text in texts)) or NOTHING
