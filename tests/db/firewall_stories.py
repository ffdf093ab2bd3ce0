"""Stories of firewalls; see `tests.db.stories`."""

from __future__ import annotations

from networks.models import Firewall
from tests import factories as make
from tests.db.stories import running, story
from vms.firewalls import actions
from vms.firewalls.actions import (
    FirewallOrder,
    Target,
    apply_firewall,
    create_firewall,
    delete_firewall,
    remove_firewall,
    set_rules,
    update_firewall,
)

MODULES = (actions,)
ANYBODY = {"direction": "in", "protocol": "icmp", "source_ips": ["0.0.0.0/0", "::/0"]}


def firewall(*targets: Target) -> Firewall:
    return create_firewall(make.project(), FirewallOrder("web", apply_to=targets))[0]


@story("firewall.create", create_firewall)
def _() -> None:
    firewall()


@story("firewall.update", update_firewall)
def _() -> None:
    update_firewall(firewall(), name="www")


@story("firewall.set_rules", set_rules)
def _() -> None:
    set_rules(firewall(), [ANYBODY])


@story("firewall.apply", apply_firewall)
def _() -> None:
    apply_firewall(firewall(), [Target(server=running().pk)])


@story("firewall.remove", remove_firewall)
def _() -> None:
    target = Target(selector="env=prod")
    remove_firewall(firewall(target), [target])


@story("firewall.delete", delete_firewall)
def _() -> None:
    delete_firewall(firewall())
