"""Drift as an operator sees it: the list, the quarantine, and what a repair would do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, expect

from cloud.drift import Drift
from cloud.models import Host
from tests.web.conftest import ready
from vms.models import VM

LIST = "/admin/cloud/drift/"


@pytest.fixture
def vm(hosts: None) -> VM:
    return ready("web-1")


def difference(name: str, age: float = 90, **values: Any) -> Drift:
    now = timezone.now()
    facts = {
        "host": Host.objects.get(name="h1"),
        "kind": "tap",
        "direction": "extra",
        "verb": "quarantine",
        "reason": "nothing says that it is ours",
        "first_seen": now - timedelta(seconds=age),
        "last_seen": now,
    }
    return Drift.objects.create(name=name, **{**facts, **values})


def some(vm: VM) -> list[Drift]:
    """One of each kind that there can be."""
    lost = "disk_lost: its data is gone, and an empty disk is never made in its place"
    return [
        difference(
            str(vm.uuid),
            kind="process",
            direction="missing",
            verb="send_server",
            server_id=vm.pk,
            reason="the host makes what the server's document says",
        ),
        difference("tap-mine", age=4000),
        difference(
            "91/disk-0",
            kind="disk",
            server_id=91,
            reason="data is never removed that no document names",
        ),
        difference(
            "92 5c0bd0f4-0000-4000-8000-000000000000",
            kind="server",
            server_id=92,
            verb="remove_server",
            reason="server #92 was deleted, and this is of it",
        ),
        difference(
            f"{vm.pk}/disk-0",
            age=2,
            kind="disk",
            direction="missing",
            verb="nothing",
            server_id=vm.pk,
            reason=lost,
        ),
    ]


def test_the_list_is_filtered_by_state_kind_and_age(client: Client, vm: VM) -> None:
    some(vm)
    difference("docker0", kept_at=timezone.now())
    shown = client.get(LIST).content.decode()
    assert "tap-mine" in shown
    assert "docker0" not in shown
    assert "seen once" in shown
    assert "docker0" in client.get(f"{LIST}?state=kept").content.decode()
    old = client.get(f"{LIST}?older_than=3600").content.decode()
    assert "tap-mine" in old
    assert str(vm.uuid) not in old
    disks = client.get(f"{LIST}?kind=disk&state=quarantined").content.decode()
    assert "91/disk-0" in disks
    assert "tap-mine" not in disks


def test_before_a_repair_a_page_says_what_will_be_done_to_each(client: Client, vm: VM) -> None:
    rows = some(vm)
    data = {"action": "repair", "_selected_action": [row.pk for row in rows]}
    said = client.post(LIST, data).content.decode()
    assert f"send the document of server #{vm.pk} again" in said
    assert "remove what is left of the deleted server #92" in said
    assert "stays: nothing says that it is ours" in said
    assert "disk_lost" in said


def test_marking_as_known_takes_it_from_the_list_and_back(client: Client, vm: VM) -> None:
    row = difference("docker0", kind="bridge")
    client.post(f"{LIST}{row.pk}/keep/", {"confirmed": "yes"})
    assert "is marked as known" in client.get(LIST).content.decode()
    assert "docker0" not in client.get(LIST).content.decode()
    page = client.get(f"{LIST}{row.pk}/change/").content.decode()
    assert "Marked as known" in page
    client.post(f"{LIST}{row.pk}/watch/", {"confirmed": "yes"})
    assert "docker0" in client.get(LIST).content.decode()


def test_who_may_only_look_cannot_repair(client: Client, vm: VM) -> None:
    row = some(vm)[0]
    reader = User.objects.create(username="eve", is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_drift"))
    client.force_login(reader)
    assert client.get(LIST).status_code == 200
    assert client.post(f"{LIST}{row.pk}/repair/").status_code == 403


@pytest.mark.django_db(transaction=True)
def test_an_operator_reads_the_quarantine_and_marks_one_as_known(page: Page, vm: VM) -> None:
    some(vm)
    page.goto(LIST)
    expect(page.get_by_text("91/disk-0")).to_be_visible()
    page.goto(f"{LIST}?state=quarantined")
    page.get_by_role("link", name="tap-mine").click()
    expect(page.get_by_text("In quarantine")).to_be_visible()
    page.get_by_role("link", name="Mark as known").click()
    expect(page.get_by_text("leaves the list")).to_be_visible()
    page.get_by_role("button", name="Mark as known").click()
    expect(page.get_by_text("is marked as known, and listed no more")).to_be_visible()
