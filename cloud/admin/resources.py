"""What Actions are about, by name. The apps that own the resources register themselves here."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from cloud.admin.display import faint
from cloud.models import Action

NamesOf = Callable[[set[int]], dict[int, str]]

_kinds: dict[str, tuple[str, NamesOf]] = {}


def register(kind: str, admin_page: str, names_of: NamesOf) -> None:
    """Tell how to name and where to show resources of a kind; `names_of` takes many ids at once."""
    _kinds[kind] = (admin_page, names_of)


def subjects(actions: Iterable[Action]) -> dict[int, list[SafeString]]:
    """For each action (by id) its resources as links; one query for each kind of resource.

    The actions need their resources prefetched. What is gone stays readable as text.
    """
    actions = list(actions)
    wanted: dict[str, set[int]] = {}
    for action in actions:
        for resource in action.resources.all():
            wanted.setdefault(resource.type, set()).add(resource.resource_id)
    names = {kind: _kinds[kind][1](ids) for kind, ids in wanted.items() if kind in _kinds}
    return {
        action.pk: [
            _shown(resource.type, resource.resource_id, names)
            for resource in action.resources.all()
        ]
        for action in actions
    }


def _shown(kind: str, pk: int, names: dict[str, dict[int, str]]) -> SafeString:
    name = names.get(kind, {}).get(pk)
    if name is None:
        return faint(f"{kind} #{pk}, gone" if kind in names else f"{kind} #{pk}")
    url = reverse(f"admin:{_kinds[kind][0]}_change", args=[pk])
    return format_html('<a class="c-link" href="{}">{}</a> {}', url, name, faint(f"{kind} #{pk}"))
