"""What a user may ask of a firewall. Every door calls these functions.

Each writes what should be and raises the generation of every server that it concerns, in one
transaction; their hosts hear of it after the commit. An Action for a server ends when its host
has applied the rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from django.db import transaction

from cloud.actions import done_at_once
from cloud.audit import changing, created, write
from cloud.errors import CumuletError, InUse, NotFound, invalid
from cloud.labels import check_labels, parse_selector
from cloud.locks import hold_project
from cloud.models import Action, Project
from cloud.naming import check_name, names_are_unique
from networks.firewalls.rules import check_rules
from networks.models import Firewall, FirewallSelector
from vms.firewalls.membership import (
    APPLY,
    REMOVE,
    Change,
    PrivateOnly,
    check_enforceable,
    lock_servers,
    tell,
)
from vms.models import VM, FirewallUse

SET_RULES = "set_firewall_rules"
MAX_SELECTOR = 1024


class TargetNotFound(CumuletError):
    """There is no such server in the project."""

    code = "firewall_resource_not_found"
    status = 404


class TargetNotFoundAtCreation(TargetNotFound):
    """As above, of a firewall that is not there yet itself."""

    status = 422


class AlreadyApplied(CumuletError):
    """The server or selector has this firewall."""

    code = "firewall_already_applied"


class AddedTwice(CumuletError):
    """A new firewall is to be applied twice to the same."""

    code = "server_already_added"


class ManagedByLabels(CumuletError):
    """The server has the firewall because of its labels only."""

    code = "firewall_managed_by_label_selector"


@dataclass(frozen=True)
class Target:
    """What a firewall is applied to: a server by its id, or the servers that meet a selector."""

    server: int | None = None
    selector: str | None = None


@dataclass(frozen=True)
class FirewallOrder:
    """What a user asked for when creating a firewall; rules in the contract's form."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    rules: Sequence[object] = ()
    apply_to: Sequence[Target] = ()


def create_firewall(project: Project, order: FirewallOrder) -> tuple[Firewall, list[Action]]:
    """Make a firewall and apply it.

    Raises InvalidInput, NotUnique (name), AddedTwice, or what `apply_firewall` raises.
    """
    firewall = Firewall(
        project=project,
        name=check_name(order.name),
        labels=check_labels(order.labels),
        rules=check_rules(list(order.rules)),
    )
    if len(set(order.apply_to)) < len(order.apply_to):
        raise AddedTwice("the firewall is to be applied twice to the same: name it once")
    with _names_are_unique(order.name), transaction.atomic():
        hold_project(project.pk)
        firewall.save()
        told = _done(firewall, SET_RULES)
        try:
            applied = _apply(firewall, order.apply_to) if order.apply_to else []
        except TargetNotFound as error:
            raise TargetNotFoundAtCreation(error.message) from error
        created(firewall, action=told)
        return firewall, [told, *applied]


def update_firewall(
    firewall: Firewall, *, name: str | None = None, labels: dict[str, str] | None = None
) -> Firewall:
    """Rename or relabel; raises InvalidInput, NotUnique, or Conflict (changed meanwhile)."""
    wanted: dict[str, object] = {}
    if name is not None:
        wanted["name"] = check_name(name)
    if labels is not None:
        wanted["labels"] = check_labels(labels)
    if wanted:
        with _names_are_unique(name):
            write(firewall, wanted)
    return firewall


def delete_firewall(firewall: Firewall) -> None:
    """Forget the firewall; raises InUse while it is applied to anything."""
    with _held(firewall):
        if firewall.uses.exists() or firewall.selectors.exists():
            raise InUse(
                f"firewall {firewall.name} is still in use: remove it from all servers and label"
                " selectors first"
            )
        with changing(firewall, "delete"):
            firewall.delete()


def set_rules(firewall: Firewall, rules: object) -> list[Action]:
    """Replace all rules, at all servers that the firewall guards. Raises InvalidInput."""
    checked = check_rules(rules)
    with _held(firewall):
        with changing(firewall, "set_rules") as change:
            firewall.rules = checked
            firewall.save(update_fields=["rules"])
            told = change.action = _done(firewall, SET_RULES)
        guarded = list(firewall.uses.values_list("vm", flat=True))
        return [told, *tell(guarded, [Change(APPLY, firewall.pk)])]


def apply_firewall(firewall: Firewall, targets: Sequence[Target]) -> list[Action]:
    """Let the firewall guard these servers, now and, by selector, in the future.

    Raises TargetNotFound, AlreadyApplied, PrivateOnly, Unenforceable, LimitExceeded or InvalidInput
    (selector).
    """
    with _held(firewall), changing(firewall, "apply") as change:
        actions = _apply(firewall, targets)
        change.action = actions[0]
        return actions


def remove_firewall(firewall: Firewall, targets: Sequence[Target]) -> list[Action]:
    """Take the firewall from these; where it is not, nothing is to be done.

    A server that it guards by a selector too keeps it. Raises TargetNotFound or ManagedByLabels.
    """
    with _held(firewall):
        servers = _servers(firewall, targets)
        direct = firewall.uses.filter(vm__in=servers, selector=None)
        labelled = firewall.uses.filter(vm__in=servers).exclude(vm__in=direct.values("vm"))
        if use := labelled.select_related("vm").first():
            raise ManagedByLabels(
                f"server {use.vm.name} has firewall {firewall.name} by its labels: change those,"
                " or remove the label selector"
            )
        ended = firewall.selectors.filter(selector__in=_selectors(targets))
        left = [
            *direct.values_list("vm", flat=True),
            *firewall.uses.filter(selector__in=ended).values_list("vm", flat=True),
        ]
        lock_servers(left)
        with changing(firewall, "remove") as change:
            direct.delete()
            ended.delete()
            actions = tell(left, [Change(REMOVE, firewall.pk)]) or [_done(firewall, REMOVE)]
            change.action = actions[0]
        return actions


def _apply(firewall: Firewall, targets: Sequence[Target]) -> list[Action]:
    """Write the uses and selectors; call with the project held."""
    _refuse_applied(firewall, targets)
    chosen = _servers(firewall, targets)
    if private := VM.objects.without_public_interface().filter(pk__in=chosen).first():
        raise PrivateOnly(private)
    following = {text: _select(firewall, text) for text in _selectors(targets)}
    reasons: list[tuple[int, FirewallSelector | None]] = [(pk, None) for pk in chosen]
    reasons += [(pk, selector) for selector, pks in following.values() for pk in pks]
    servers = {vm.pk: vm for vm in lock_servers(pk for pk, _ in reasons)}
    check_enforceable(servers.values())
    FirewallUse.objects.bulk_create(
        FirewallUse(
            vm=servers[pk], firewall=firewall, selector=selector, generation=servers[pk].generation
        )
        for pk, selector in reasons
        if pk in servers
    )
    return tell(servers, [Change(APPLY, firewall.pk)]) or [_done(firewall, APPLY)]


def _refuse_applied(firewall: Firewall, targets: Sequence[Target]) -> None:
    direct = firewall.uses.filter(selector=None).values_list("vm", flat=True)
    known = {Target(server=pk) for pk in direct}
    known |= {Target(selector=one.selector) for one in firewall.selectors.all()}
    for target in targets:
        if target in known:
            what = f"server {target.server}" if target.server else f"{target.selector!r}"
            raise AlreadyApplied(f"firewall {firewall.name} is applied to {what} already")
        known.add(target)


def _servers(firewall: Firewall, targets: Sequence[Target]) -> list[int]:
    """The servers named by their ids; raises TargetNotFound."""
    named = [target.server for target in targets if target.server is not None]
    ours = VM.objects.filter(project=firewall.project_id, deleting=False, pk__in=named)
    found = set(ours.values_list("pk", flat=True))
    for pk in named:
        if pk not in found:
            raise TargetNotFound(f"server with ID '{pk}' not found")
    return named


def _selectors(targets: Sequence[Target]) -> list[str]:
    return [target.selector for target in targets if target.selector is not None]


def _select(firewall: Firewall, text: str) -> tuple[FirewallSelector, list[int]]:
    """Write the selector, and find the servers that meet it now; raises InvalidInput."""
    if not parse_selector(text) or len(text) > MAX_SELECTOR:
        raise invalid("label_selector", f"must have 1 to {MAX_SELECTOR} characters")
    meeting = VM.objects.filter(project=firewall.project_id, deleting=False).matching(text)
    selector = FirewallSelector.objects.create(firewall=firewall, selector=text)
    return selector, list(meeting.values_list("pk", flat=True))


@contextmanager
def _held(firewall: Firewall) -> Iterator[None]:
    """The firewall as it is now, and nothing about its project's firewalls changes meanwhile."""
    with transaction.atomic():
        hold_project(firewall.project_id)
        try:
            firewall.refresh_from_db()
        except Firewall.DoesNotExist as error:
            raise NotFound(f"firewall with ID '{firewall.pk}' not found") from error
        yield


def _done(firewall: Firewall, command: str) -> Action:
    """An Action about the firewall itself, which waits for no host."""
    return done_at_once(firewall.project, command, ("firewall", firewall.pk))


def _names_are_unique(name: str | None) -> AbstractContextManager[None]:
    return names_are_unique("firewall_name_unique", "firewall", name)
