"""An operator runs a real server from the admin and finds its tasks in Flower."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from deploy import control
from deploy.state import Instance
from tests.browser import chromium, clean_tab
from tests.e2e.world import World

pytestmark = pytest.mark.first_vm


@pytest.fixture
def browser(world: World) -> Iterator[BrowserContext]:
    flower = {"username": control.FLOWER_USER, "password": world.cloud.instance.passwords.flower}
    with chromium(http_credentials=flower) as context:
        yield context


@pytest.fixture
def instance(world: World) -> Instance:
    return world.cloud.instance


def test_an_operator_runs_a_server_from_the_admin(
    world: World, browser: BrowserContext, instance: Instance
) -> None:
    with clean_tab(browser) as page:
        _log_in(page, instance)
        page.get_by_role("link", name="Create a server").click()
        page.get_by_label("Name", exact=True).fill("by-hand")
        page.locator(".c-ticks input").first.check()
        page.get_by_role("button", name="Create").click()
        hero = page.locator("#live-hero")
        expect(hero).to_contain_text("running", timeout=60_000)
        assert len(world.guest_processes()) == 1
        page.get_by_role("link", name="Power off").click()
        page.get_by_role("button", name="Power off").click()
        expect(hero).to_contain_text("off", timeout=30_000)
        assert world.guest_processes() == []
        page.get_by_role("link", name="Delete").click()
        page.get_by_role("button", name="Delete").click()
        expect(page.get_by_text("No servers yet")).to_be_visible(timeout=30_000)


def test_flower_tells_which_server_a_hosts_task_was_about(
    world: World, browser: BrowserContext, instance: Instance
) -> None:
    world.create("watched")
    with clean_tab(browser) as page:
        page.goto(f"{instance.flower_url}/tasks")
        # A page has the newest ten tasks, and other hosts are at work as well.
        page.locator("input[type=search]").fill("server watched")
        row = page.locator("tr", has_text="server watched").first
        expect(row).to_contain_text("vms.ensure")
        expect(row).to_contain_text("agent@h")


def test_an_action_leads_to_its_tasks_in_flower_and_they_lead_back(
    world: World, browser: BrowserContext, instance: Instance
) -> None:
    for name in ("led-from", "bystander"):
        world.create(name)
    with clean_tab(browser) as page:
        _log_in(page, instance)
        page.goto(f"{instance.web_url}/admin/cloud/action/?q=start_server")
        page.locator("tr", has_text="led-from").get_by_role("link", name="Start server").click()
        action = urlsplit(page.url).path
        page.get_by_role("link", name="Tasks in Flower").click()

        expect(page.locator("th", has_text="Request").first).to_be_visible()
        rows = page.locator("#tasks-table tbody tr")
        expect(rows.filter(has_text="server led-from").first).to_contain_text("vms.ensure")
        expect(page.locator("tr", has_text="bystander")).to_have_count(0)

        rows.first.get_by_role("link", name="filter").click()
        expect(rows.filter(has_text="server led-from").first).to_be_visible()
        rows.first.locator("td").nth(2).get_by_role("link").first.click()
        page.get_by_role("link", name="Start server").click()
        expect(page.get_by_role("link", name="Tasks in Flower")).to_be_visible()
        assert urlsplit(page.url).path == action


def test_a_tasks_page_in_flower_names_its_request(
    world: World, browser: BrowserContext, instance: Instance
) -> None:
    world.create("traced")
    flower = httpx.Client(
        base_url=instance.flower_url, auth=(control.FLOWER_USER, instance.passwords.flower)
    )
    with flower, clean_tab(browser) as page:
        tasks = flower.get("/api/tasks", params={"search": "server traced"}).json()
        task, facts = next(iter(tasks.items()))
        request_id = facts["kwargs"].removeprefix("request_id=")
        page.goto(f"{instance.flower_url}/task/{task}")
        row = page.locator(".detail-row", has=page.get_by_text("Request", exact=True))
        expect(row).to_contain_text(request_id)
        row.get_by_role("link", name="filter").click()
        expect(page.get_by_placeholder("state:FAILURE")).to_have_value(f"request_id={request_id}")


def _log_in(page: Page, instance: Instance) -> None:
    page.goto(f"{instance.web_url}/admin/")
    page.get_by_label("Username").fill(control.ADMIN)
    page.get_by_label("Password").fill(instance.passwords.admin)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
