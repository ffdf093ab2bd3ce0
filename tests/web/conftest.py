"""A person at the admin: over plain HTTP, or in a real browser that must not complain."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import BrowserContext, Page
from pytest_django.live_server_helper import LiveServer

from tests import factories as make
from tests.browser import chromium, clean_tab
from vms import reports
from vms.models import VM

PASSWORD = "a-long-enough-password"


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


@pytest.fixture(scope="package")
def browser(live_server: LiveServer) -> Iterator[BrowserContext]:
    """One browser for all tests here, so that it keeps the theme's files in its cache."""
    # Playwright keeps an event loop in this thread; the database is used beside it, not in it.
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with chromium(base_url=live_server.url) as context:
        yield context
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
    else:
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


@pytest.fixture
def stranger(browser: BrowserContext) -> Iterator[Page]:
    """A browser tab of somebody who has not logged in."""
    with clean_tab(browser) as page:
        yield page


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
