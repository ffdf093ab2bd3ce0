"""A person at the admin: over plain HTTP, or in a real browser that must not complain."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

from tests import factories as make
from vms import reports
from vms.models import VM

PASSWORD = "a-long-enough-password"
# The browser is the system's; it talks to the live server on loopback and to nothing else.
_CHROMIUM = "/usr/bin/chromium"
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def password_hash() -> str:
    return make_password(PASSWORD)


@pytest.fixture
def operator(db: None, password_hash: str) -> User:
    return User.objects.create(
        username="ada", password=password_hash, is_staff=True, is_superuser=True
    )


@pytest.fixture
def client(operator: User) -> Client:
    """Logged in, over plain HTTP."""
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture(scope="session")
def browser(live_server: LiveServer) -> Iterator[BrowserContext]:
    """One browser for all tests, so that it keeps the theme's files in its cache."""
    # Playwright keeps an event loop in this thread; the database is used beside it, not in it.
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_ARGUMENTS))
        context = chromium.new_context(
            base_url=live_server.url, viewport={"width": 1440, "height": 900}
        )
        context.set_default_timeout(10_000)
        yield context
        chromium.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
    else:
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


@pytest.fixture
def stranger(browser: BrowserContext) -> Iterator[Page]:
    """A browser tab of somebody who has not logged in; at the end its console must be clean."""
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"{message.text} at {message.location}")

    page = browser.new_page()
    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    browser.clear_cookies()
    assert complaints == []


@pytest.fixture
def page(stranger: Page, live_server: LiveServer, client: Client) -> Page:
    """A browser tab of an operator who has logged in."""
    session = {"name": "sessionid", "value": client.cookies["sessionid"].value}
    stranger.context.add_cookies([{**session, "url": live_server.url}])
    return stranger


@pytest.fixture
def hosts(db: None) -> None:
    make.host(accelerator_reason="a guest did not finish within 2 s")
    make.pool()


def ready(name: str) -> VM:
    """A server that its host reported as running."""
    vm = make.ordered(name).vm
    reports.vm_report(make.report(vm), f"host-{vm.host.name}")
    vm.refresh_from_db()
    assert vm.status == "running"
    return vm
