"""Firewalls in the admin: written, applied and read by a person."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from playwright.sync_api import Page, expect

from networks.models import Firewall
from tests import factories as make
from tests.web.conftest import ready
from vms import reports
from vms.firewalls.actions import FirewallOrder, Target, create_firewall
from vms.models import VM

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("hosts")]

SSH = {"direction": "in", "protocol": "tcp", "port": "22", "source_ips": ["0.0.0.0/0", "::/0"]}


def firewall(*targets: Target, name: str = "web") -> Firewall:
    order = FirewallOrder(name, rules=[SSH], apply_to=targets)
    return create_firewall(make.project(), order)[0]


def rows(*rules: tuple[str, str, str, str, str]) -> dict[str, Any]:
    """What a browser sends for these rows of rules."""
    names = ("direction", "protocol", "port", "networks", "description")
    columns = zip(*rules, strict=True)
    return {f"rules-{name}": list(column) for name, column in zip(names, columns, strict=True)}


def test_a_firewall_is_written_applied_and_shown(page: Page) -> None:
    vm = ready("web-1")
    page.goto("/admin/networks/firewall/add/")
    page.get_by_label("Name", exact=True).fill("web")
    page.get_by_role("button", name="SSH").click()
    page.get_by_role("button", name="Ping").click()
    page.get_by_role("button", name="Another rule").click()
    last = page.locator(".c-rule").last
    last.get_by_label("Port").fill("8080-8090")
    last.get_by_label("Networks").fill("192.0.2.1/24")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("Rule 3, network 1: 192.0.2.1/24 has host bits set")).to_be_visible()
    page.get_by_label("Networks").nth(2).fill("192.0.2.0/24, 2001:db8::/32")
    page.get_by_role("button", name="Remove this rule").nth(1).click()
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("Firewall web is added.")).to_be_visible()
    expect(page.get_by_text("2001:db8::/32")).to_be_visible()
    ports = [rule["port"] for rule in Firewall.objects.get().rules]
    assert ports == ["22", "8080-8090"]

    page.get_by_role("link", name="Apply to").click()
    page.get_by_label("web-1").check()
    page.get_by_label("Label selector").fill("env=prod")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#live-hero")).to_contain_text("pending")
    vm.refresh_from_db()
    reports.vm_report(make.report(vm), "host-h1")
    expect(page.locator("#live-hero")).to_contain_text("applied")
    page.goto(f"/admin/vms/vm/{vm.pk}/change/")
    expect(page.get_by_role("row", name="web applied to the server applied")).to_be_visible()


def test_rules_are_edited_as_they_are(client: Client) -> None:
    made = firewall()
    url = f"/admin/networks/firewall/{made.pk}/rules/"
    page = client.get(url).content.decode()
    assert "0.0.0.0/0 ::/0" in page
    blank = ("in", "tcp", "", "", "")
    kept = ("in", "tcp", "22", "0.0.0.0/0 ::/0", "")
    out = ("out", "udp", "53", "192.0.2.53/32", "names")
    assert client.post(url, rows(kept, out, blank)).status_code == 302
    made.refresh_from_db()
    assert [rule["direction"] for rule in made.rules] == ["in", "out"]
    assert made.rules[1]["destination_ips"] == ["192.0.2.53/32"]
    wrong = client.post(url, rows(kept, ("in", "icmp", "22", "::/0", "")))
    assert wrong.context["form"].errors["rules"] == [
        "Rule 2, port: is not possible with icmp: leave it out"
    ]
    assert client.post(url, rows(blank)).status_code == 302
    made.refresh_from_db()
    assert made.rules == []


def test_a_firewall_is_taken_from_what_it_is_applied_to(client: Client) -> None:
    vm = ready("web-1")
    made = firewall(Target(server=vm.pk), Target(selector="env=prod"))
    url = f"/admin/networks/firewall/{made.pk}"
    refused = client.post(f"{url}/forget/", follow=True)
    assert b"Delete: not done. Firewall web is still in use" in refused.content
    assert b"Choose at least one" in client.post(f"{url}/remove/", {"servers": ""}).content
    chosen = {"applied_to": ["server web-1", "label selector env=prod"]}
    assert client.post(f"{url}/remove/", chosen).status_code == 302
    assert not made.uses.exists()
    client.post(f"{url}/forget/")
    assert not Firewall.objects.exists()


def test_a_wrong_selector_comes_back_with_the_reason_at_its_field(client: Client) -> None:
    made = firewall()
    answer = client.post(f"/admin/networks/firewall/{made.pk}/apply/", {"label_selector": "a b"})
    assert "cannot read" in answer.context["form"].errors["label_selector"][0]


def test_a_firewall_is_renamed(client: Client) -> None:
    made = firewall()
    change = {"name": "www", "labels": "tier=web"}
    client.post(f"/admin/networks/firewall/{made.pk}/rename/", change)
    made.refresh_from_db()
    assert (made.name, made.labels) == ("www", {"tier": "web"})


def test_who_may_only_look_changes_no_firewall() -> None:
    made = firewall()
    guest = User.objects.create_user("guest", is_staff=True)
    guest.user_permissions.add(Permission.objects.get(codename="view_firewall"))
    client = Client()
    client.force_login(guest)
    url = f"/admin/networks/firewall/{made.pk}"
    assert b"Edit rules" not in client.get(f"{url}/change/").content
    for form in ("rules", "apply", "remove", "rename", "forget"):
        assert client.post(f"{url}/{form}/", {"name": "x"}).status_code == 403
    made.refresh_from_db()
    assert made.rules


def test_a_new_server_is_ordered_with_its_firewalls(client: Client) -> None:
    made = firewall()
    ready("web-0")
    vm = VM.objects.get()
    order = {
        "name": "web-1",
        "image": vm.image_id,
        "server_type": vm.server_type_id,
        "firewalls": [made.pk],
        "public_ipv4": "on",
        "start": "on",
    }
    client.post("/admin/vms/vm/add/", order)
    assert [use.firewall for use in VM.objects.get(name="web-1").firewall_uses.all()] == [made]
