"""Dead letters in the admin: which message, why, what it ended, and what can be done."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from playwright.sync_api import Page, expect

from cloud.deadqueue import DeadMessage
from cloud.models import DeadLetter
from cloud.poison import Message
from tests.web.conftest import ready
from vms import dead_letters
from vms.actions import PowerCommand, power
from vms.models import VM

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.faults,
    pytest.mark.usefixtures("hosts"),
]


def died(body: bytes, **values: Any) -> DeadLetter:
    headers = {"task": values.pop("task", "vms.ensure"), "id": "t-1", "request_id": "req-42"}
    sender = values.pop("sender", "")
    message = Message(body, "application/json", "utf-8", headers, "hosts", sender)
    facts = {"queue": "host.h1", "reason": "rejected", "deliveries": 1, "raised": ""}
    stored = dead_letters.keep(DeadMessage(message, **{**facts, **values}))
    assert stored is not None
    return stored


@pytest.fixture
def letter(hosts: None) -> DeadLetter:
    vm = ready("web-1")
    action = power(vm, PowerCommand.POWEROFF)
    body = f'[[{{"version": 7, "vm_id": {vm.pk}, "generation": {action.generation},'
    return died(f'{body} "user_data": "planted-secret"}}], {{}}, {{}}]'.encode())


def test_an_operator_sees_why_a_message_died_and_asks_again(page: Page, letter: DeadLetter) -> None:
    died(b"\x00nonsense", queue="reports", sender="host-h1", task="reports.vm")
    page.goto("/admin/")
    page.locator("#nav-sidebar a[href='/admin/cloud/deadletter/']").click()
    rows = page.locator("#result_list tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.filter(has_text="vms.ensure")).to_contain_text("of wire version 7")
    expect(rows.filter(has_text="reports.vm")).to_contain_text("not JSON")
    page.goto(f"/admin/cloud/deadletter/{letter.pk}/change/")
    expect(page.get_by_text("Nobody could take this")).to_be_visible()
    expect(page.locator("body")).to_contain_text("Stop server")
    expect(page.locator("body")).to_contain_text("(secret)")
    expect(page.locator("body")).not_to_contain_text("planted-secret")
    page.get_by_role("link", name="Ask again").click()
    page.get_by_role("button", name="Ask again").click()
    expect(page.get_by_text("Asked again for what")).to_be_visible()


def test_a_letter_is_forgotten_after_a_question(client: Client, letter: DeadLetter) -> None:
    url = f"/admin/cloud/deadletter/{letter.pk}/forget/"
    assert b"is forgotten." in client.get(url).content
    assert DeadLetter.objects.exists()
    client.post(url)
    assert not DeadLetter.objects.exists()
    assert VM.objects.exists()


def test_asking_again_for_what_is_gone_is_refused_in_words(
    client: Client, letter: DeadLetter
) -> None:
    DeadLetter.objects.update(resource_id=987_654)
    answer = client.post(f"/admin/cloud/deadletter/{letter.pk}/again/", follow=True)
    assert "is gone: forget the letter" in answer.content.decode()


def test_letters_are_filtered_by_queue_and_reason(client: Client, letter: DeadLetter) -> None:
    died(b"nonsense", queue="reports", reason="delivery_limit", sender="host-h1")
    for query, count in (
        ("queue=reports", 1),
        ("reason__exact=delivery_limit", 1),
        ("reason__exact=maxlen", 0),
        ("q=req-42", 2),
    ):
        answer = client.get(f"/admin/cloud/deadletter/?{query}")
        assert answer.context["cl"].result_count == count, query


def test_who_may_only_look_is_offered_nothing(letter: DeadLetter) -> None:
    watcher = User.objects.create_user("eve", is_staff=True)
    watcher.user_permissions.add(Permission.objects.get(codename="view_deadletter"))
    client = Client()
    client.force_login(watcher)
    answer = client.get(f"/admin/cloud/deadletter/{letter.pk}/change/")
    assert answer.status_code == 200
    assert answer.context["buttons"] == []
    assert client.post(f"/admin/cloud/deadletter/{letter.pk}/forget/").status_code == 403
