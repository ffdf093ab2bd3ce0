"""Firewalls as a person reads them: badges, rules in words, and the tables of their pages."""

from __future__ import annotations

from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from cloud.admin.activity import HEADERS, action_rows
from cloud.admin.display import Tone, badge, code, faint, link, list_url, stacked
from cloud.admin.page import Cell, Table
from cloud.models import Action
from networks.firewalls.rules import Rule, networks_of
from networks.models import Firewall
from vms.firewalls.effective import is_applied
from vms.models import FirewallUse


def why_guarded(use: FirewallUse) -> SafeString:
    """What a use of a firewall comes from."""
    return code(use.selector) if use.selector else faint("applied to the server")


def guard_badge(applied: bool) -> SafeString:
    """Whether a server's host has applied a firewall as it is now."""
    if applied:
        return badge("applied", Tone.GOOD)
    return badge("pending", Tone.BUSY, moving=True, hint="Its host has not said so yet.")


def words_of(rules: list[Rule]) -> SafeString:
    """The rules in a few words, for each direction."""
    incoming = [_short(rule) for rule in rules if rule["direction"] == "in"]
    outgoing = [_short(rule) for rule in rules if rule["direction"] == "out"]
    return stacked(
        f"in: {', '.join(dict.fromkeys(incoming)) or 'nothing'}",
        f"out: {', '.join(dict.fromkeys(outgoing)) or 'everything'}",
    )


def _short(rule: Rule) -> str:
    return f"{rule['protocol']} {rule['port'] or ''}".strip()


def rules_table(firewall: Firewall) -> Table:
    rows: list[list[Cell]] = [
        [
            badge(rule["direction"], Tone.BUSY if rule["direction"] == "in" else Tone.IDLE),
            rule["protocol"],
            code(rule["port"]),
            format_html_join(" ", "{}", ((code(text),) for text in networks_of(rule))),
            rule["description"] or "",
        ]
        for rule in firewall.rules
    ]
    headers = ("Direction", "Protocol", "Port", "From or to", "Description")
    return Table("Rules", headers, rows, "No rules: nothing comes in, everything goes out.")


def selectors_table(firewall: Firewall) -> Table:
    rows: list[list[Cell]] = [
        [code(one.selector), one.uses.count()] for one in firewall.selectors.all()
    ]
    headers = ("Label selector", "Servers now")
    return Table("Follows labels", headers, rows, "It follows no labels.")


def guarded_table(uses: list[FirewallUse]) -> Table:
    rows: list[list[Cell]] = [
        [
            link(use.vm),
            why_guarded(use),
            guard_badge(is_applied(use, use.vm)),
        ]
        for use in uses
    ]
    headers = ("Server", "Because of", "State")
    return Table("Guards", headers, rows, "It guards no server.")


def actions_table(firewall: Firewall) -> Table:
    about = Action.objects.of("firewall", firewall.pk).prefetch_related("resources")
    more = list_url(Action, f"?q={firewall.pk}")
    rows = action_rows(about.order_by("-id")[:10])
    return Table("Last actions", HEADERS, rows, "None yet.", more_url=more)
