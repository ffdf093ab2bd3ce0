"""Debian's Chromium, driven by Playwright, that talks to the pages under test and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, sync_playwright

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


@contextmanager
def chromium(**options: Any) -> Iterator[BrowserContext]:
    """A browser with one profile; `options` are those of Playwright's `new_context`.

    Only one may be open at a time: Playwright keeps an event loop in this thread.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_ARGUMENTS))
        context = browser.new_context(viewport={"width": 1440, "height": 900}, **options)
        context.set_default_timeout(10_000)
        try:
            yield context
        finally:
            browser.close()


@contextmanager
def clean_tab(context: BrowserContext) -> Iterator[Page]:
    """A tab whose console must stay free of errors and warnings."""
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"{message.text} at {message.location}")

    page = context.new_page()
    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    context.clear_cookies()
    assert complaints == []
