"""The admin as a person uses it, in a real browser."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from cloud.models import Action
from tests import factories as make
from tests.web.conftest import PASSWORD, ready
from vms import reports
from vms.models import VM

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("hosts")]


def test_an_operator_logs_in_and_a_wrong_password_does_not(stranger: Page, operator: User) -> None:
    stranger.goto("/admin/")
    stranger.get_by_label("Username").fill(operator.username)
    stranger.get_by_label("Password").fill("a-wrong-password")
    stranger.get_by_role("button", name="Log in").click()
    expect(stranger.get_by_text("Please enter the correct username and password")).to_be_visible()
    stranger.get_by_label("Password").fill(PASSWORD)
    stranger.get_by_role("button", name="Log in").click()
    expect(stranger.get_by_role("heading", name="Overview")).to_be_visible()


def test_the_overview_shows_hosts_servers_and_what_is_under_way(page: Page) -> None:
    ready("web-1")
    make.ordered("web-2")
    page.goto("/admin/")
    expect(page.locator("#live-hosts")).to_contain_text("h1")
    expect(page.locator("#live-states")).to_contain_text("running 1")
    expect(page.locator("#live-tables")).to_contain_text("web-2")
    expect(page.get_by_text("No hardware virtualization")).to_be_visible()


def test_the_list_shows_state_address_and_host_of_each_server(page: Page) -> None:
    vm = ready("web-1")
    page.goto("/admin/")
    page.locator("#nav-sidebar a[href='/admin/vms/vm/']").click()
    row = page.locator("#result_list tbody tr", has_text="web-1")
    expect(row).to_contain_text("running")
    expect(row).to_contain_text(str(vm.nics.get().ipv4.address))
    expect(row).to_contain_text("h1")
    expect(row.locator("time")).to_have_text(re.compile("ago|now"))


def test_a_search_by_address_finds_its_server(page: Page) -> None:
    ready("web-1")
    other = ready("web-2").nics.get().ipv4.address
    page.goto("/admin/vms/vm/")
    page.get_by_placeholder("Name, address").fill(str(other))
    page.keyboard.press("Enter")
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    expect(page.locator("#result_list")).to_contain_text("web-2")


def test_a_power_action_says_what_will_happen_and_then_asks_the_host(page: Page) -> None:
    vm = ready("web-1")
    page.goto(f"/admin/vms/vm/{vm.pk}/change/")
    page.get_by_role("link", name="Power off").click()
    expect(page.get_by_text("what the guest has not saved is lost")).to_be_visible()
    assert not Action.objects.filter(command="stop_server").exists()
    page.get_by_role("button", name="Power off").click()
    expect(page.get_by_text("Stop server was asked of web-1")).to_be_visible()
    assert Action.objects.get(command="stop_server").status == "running"
    expect(page.locator("#live-hero")).to_contain_text("stopping")


def test_the_page_of_a_server_follows_its_state_by_itself(page: Page) -> None:
    vm = ready("web-1")
    page.goto(f"/admin/vms/vm/{vm.pk}/poweroff/")
    page.get_by_role("button", name="Power off").click()
    expect(page.locator("#live-hero")).to_contain_text("stopping")
    reports.vm_report(make.report(vm), "host-h1")
    expect(page.locator("#live-hero")).to_contain_text("off")
    expect(page.get_by_role("link", name="Power on")).to_be_visible()


def test_many_servers_are_shut_down_at_once_and_refusals_are_told(page: Page) -> None:
    ready("web-1")
    ready("web-2")
    make.ordered("young")
    page.goto("/admin/vms/vm/")
    for box in page.locator("input.action-select[name=_selected_action]").all():
        box.check()
    page.get_by_label("Select action to run").select_option("shutdown")
    page.get_by_role("button", name="Run").click()
    effects = page.locator(".c-effects")
    expect(effects).to_contain_text("young is still being created: will be refused")
    page.get_by_role("button", name="Shut down").click()
    expect(page.get_by_text("Shut down: not done.")).to_contain_text("young")
    shut = VM.objects.filter(goal="shutdown").order_by("name").values_list("name", flat=True)
    assert list(shut) == ["web-1", "web-2"]


def test_a_new_server_without_a_key_shows_its_root_password_once(page: Page) -> None:
    make.image("micro")
    make.server_type("nano")
    make.project("default")
    page.goto("/admin/")
    page.get_by_role("link", name="Create a server").click()
    page.get_by_label("Name", exact=True).fill("db-1")
    page.locator("label.c-choice", has_text="nano").click()
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("db-1 is being created")).to_be_visible()
    password = page.locator("#secret-value").inner_text()
    assert len(password) >= 20
    page.get_by_role("link", name="Go to the server").click()
    expect(page.locator("#live-hero")).to_contain_text("initializing")
    assert password not in page.content()


def test_an_order_that_no_host_can_take_comes_back_with_every_reason(page: Page) -> None:
    make.image("micro")
    make.server_type("huge", cores=64, memory_mb=2**20, disk_gb=1)
    make.project("default")
    page.goto("/admin/vms/vm/add/")
    page.get_by_label("Name", exact=True).fill("db-1")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_contain_text("h1: has only 4 cores of 64 needed")
    expect(page.get_by_label("Name", exact=True)).to_have_value("db-1")


def test_a_protected_server_is_not_deleted_and_says_why(page: Page) -> None:
    vm = ready("web-1")
    page.goto(f"/admin/vms/vm/{vm.pk}/protect/")
    page.get_by_role("button", name="Protect").click()
    page.get_by_role("link", name="Delete").click()
    expect(page.locator(".c-effects")).to_contain_text("is protected: will be refused")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Delete: not done.")).to_be_visible()
    assert not VM.objects.get(pk=vm.pk).deleting


def test_the_hosts_show_capacity_heartbeat_and_why_guests_are_slow(page: Page) -> None:
    ready("web-1")
    page.goto("/admin/cloud/host/")
    row = page.locator("#result_list tbody tr", has_text="h1")
    expect(row).to_contain_text("speaking")
    expect(row).to_contain_text("256 MiB of 8 GiB")
    row.get_by_role("link", name="h1").click()
    expect(page.get_by_text("a guest did not finish within 2 s")).to_be_visible()


def test_an_empty_list_says_how_to_fill_it(page: Page) -> None:
    page.goto("/admin/vms/vm/")
    expect(page.get_by_text("No servers yet")).to_be_visible()
    expect(page.get_by_text("hcloud server create")).to_be_visible()


def test_the_admin_is_readable_on_a_telephone(page: Page) -> None:
    vm = ready("web-1")
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/admin/", "/admin/vms/vm/", f"/admin/vms/vm/{vm.pk}/change/"):
        page.goto(path)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{path} is {wide} pixels wide"
