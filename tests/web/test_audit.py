"""The audit trail in the admin: what administrators do is theirs, and how it is read."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from playwright.sync_api import Page, expect

from cloud.actor import UNDECLARED, current
from cloud.models import AuditEntry
from tests import factories as make
from tests.web.conftest import PASSWORD, ready
from vms.models import VM

NEW_PASSWORD = "another-long-password"


@pytest.fixture
def vm(hosts: None) -> VM:
    return ready("web-1")


def page_of(client: Client, entry: AuditEntry) -> str:
    answer = client.get(f"/admin/cloud/auditentry/{entry.pk}/change/")
    assert answer.status_code == 200
    return answer.content.decode()


def test_what_an_administrator_does_is_theirs(client: Client, operator: User, vm: VM) -> None:
    client.post(f"/admin/vms/vm/{vm.pk}/protect/", headers={"X-Request-ID": "r-1"})
    entry = AuditEntry.objects.get(verb="server.change_protection")
    assert (entry.actor_kind, entry.actor_id, entry.actor_name) == ("user", operator.pk, "ada")
    assert entry.request_id == "r-1"
    assert current() == UNDECLARED


def test_the_page_shows_before_and_after_and_leads_on(client: Client, vm: VM) -> None:
    client.post(f"/admin/vms/vm/{vm.pk}/poweroff/", headers={"X-Request-ID": "r-1"})
    entry = AuditEntry.objects.get(verb="server.poweroff")
    page = page_of(client, entry)
    assert f"/admin/cloud/action/{entry.action_id}/change/" in page
    assert "What else happened to it" in page
    assert "server.create" in page
    rows = {
        row[0]: row[1:]
        for row in client.get(f"/admin/cloud/auditentry/{entry.pk}/change/")
        .context["page"]
        .tables[0]
        .rows
    }
    before, after = next(cells for name, cells in rows.items() if ">goal<" in name)
    assert ">running<" in before
    assert ">off<" in after


def test_one_request_is_shown_with_everything_that_it_caused(client: Client, vm: VM) -> None:
    ready("web-2")
    chosen = list(VM.objects.values_list("pk", flat=True))
    bulk = {"action": "poweroff", "_selected_action": chosen, "confirmed": "yes"}
    client.post("/admin/vms/vm/", bulk, headers={"X-Request-ID": "r-2"})
    one, other = AuditEntry.objects.filter(request_id="r-2")
    assert f"/admin/cloud/auditentry/{other.pk}/change/" in page_of(client, one)
    shown = client.get("/admin/cloud/auditentry/?q=r-2").context["cl"].result_list
    assert list(shown) == [one, other]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("verb=server.create", True),
        ("resource_type=server", True),
        ("actor_kind__exact=system", True),
        ("q=web-1", True),
        ("q=undeclared", True),
        ("verb=token.issue", False),
        ("resource_type=pool", False),
        ("actor_kind__exact=user", False),
        ("q=nothing", False),
    ],
)
def test_the_list_is_filtered_and_searched(client: Client, vm: VM, query: str, found: bool) -> None:
    shown = client.get(f"/admin/cloud/auditentry/?{query}").context["cl"].result_list
    assert bool(shown) == found


def test_entries_of_what_is_gone_stay_readable(client: Client) -> None:
    place = make.location()
    client.post(f"/admin/cloud/location/{place.pk}/delete/", {"post": "yes"})
    assert "is gone" in client.get("/admin/cloud/auditentry/").content.decode()
    assert "lab" in page_of(client, AuditEntry.objects.get(verb="location.delete"))


def test_it_is_only_read_and_only_by_who_may(client: Client, vm: VM) -> None:
    entry = AuditEntry.objects.latest("id")
    path = f"/admin/cloud/auditentry/{entry.pk}"
    assert client.post(f"{path}/change/", {"verb": "x"}).status_code == 403
    assert client.post(f"{path}/delete/", {"post": "yes"}).status_code == 403
    assert client.get("/admin/cloud/auditentry/add/").status_code == 403
    guest = User.objects.create_user("guest", is_staff=True)
    client.force_login(guest)
    assert client.get("/admin/cloud/auditentry/").status_code == 403
    guest.user_permissions.add(Permission.objects.get(codename="view_auditentry"))
    assert client.get(f"{path}/change/").status_code == 200


def test_rights_given_and_taken_are_told_by_name(client: Client) -> None:
    guest = User.objects.create_user("guest", is_staff=True)
    guest.user_permissions.add(Permission.objects.get(codename="view_vm"))
    may = Permission.objects.get(codename="change_vm")
    saved: dict[str, Any] = {
        "username": "guest",
        "is_active": "on",
        "is_staff": "on",
        "user_permissions": [may.pk],
        "date_joined_0": guest.date_joined.date(),
        "date_joined_1": guest.date_joined.time(),
    }
    client.post(f"/admin/auth/user/{guest.pk}/change/", saved)
    entry = AuditEntry.objects.get(verb="user.update")
    assert entry.before == {"user_permissions": ["view_vm"]}
    assert entry.after == {"user_permissions": ["change_vm"]}


def test_ones_own_new_password_is_told_and_not_shown(client: Client) -> None:
    assert "Old password" in client.get("/admin/password_change/").content.decode()
    new = {"new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
    wrong = {"old_password": "wrong", **new}
    assert client.post("/admin/password_change/", wrong).status_code == 200
    assert not AuditEntry.objects.exists()
    right = {"old_password": PASSWORD, **new}
    assert client.post("/admin/password_change/", right).status_code == 302
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.actor_name) == ("user.change_password", "ada")
    assert entry.after == {"password": "(secret)"}


def test_a_page_costs_as_many_queries_with_many_neighbours_as_with_few(
    client: Client, vm: VM
) -> None:
    def queries() -> int:
        entry = AuditEntry.objects.latest("id")
        with CaptureQueriesContext(connection) as seen:
            page_of(client, entry)
        return len(seen)

    client.post(f"/admin/vms/vm/{vm.pk}/reset/")
    few = queries()
    for _ in range(4):
        client.post(f"/admin/vms/vm/{vm.pk}/reset/")
    assert queries() == few


@pytest.mark.django_db(transaction=True)
def test_an_operator_finds_out_who_switched_a_server_off(page: Page, hosts: None) -> None:
    ready("web-1")
    vm = ready("web-2")
    page.goto(f"/admin/vms/vm/{vm.pk}/poweroff/")
    page.get_by_role("button", name="Power off").click()
    page.locator("#nav-sidebar a[href='/admin/cloud/auditentry/']").click()
    page.get_by_placeholder("Request id, name or actor").fill("web-2")
    page.keyboard.press("Enter")
    row = page.locator("#result_list tbody tr", has_text="server.poweroff")
    expect(row).to_contain_text("ada")
    row.get_by_role("link", name="server.poweroff").click()
    expect(page.get_by_role("heading", name="web-2")).to_be_visible()
    changed = page.locator("#live-tables tr", has_text="goal")
    expect(changed).to_contain_text("running")
    expect(changed).to_contain_text("off")


@pytest.mark.django_db(transaction=True)
def test_the_trail_is_readable_on_a_telephone(page: Page, hosts: None) -> None:
    ready("web-1")
    page.set_viewport_size({"width": 390, "height": 844})
    entry = AuditEntry.objects.earliest("id")
    for path in ("", f"{entry.pk}/change/"):
        page.goto(f"/admin/cloud/auditentry/{path}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{path} is {wide} pixels wide"
