"""Several web processes are one cloud: none grants what another one has used up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.models import User

from cloud.logins import PER_ACCOUNT_THERE
from cloud.tokens import issue_token
from tests import factories as make
from tests.api.web_processes import web_processes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.faults]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[str]]:
    with web_processes(2, tmp_path / "web.log") as urls:
        yield urls


def try_to_log_in(url: str, proxied_for: str | None = None) -> int:
    """The status of one try with a wrong password, by a browser that was never here."""
    headers = {"X-Forwarded-For": proxied_for} if proxied_for else {}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as browser:
        page = browser.get("/admin/login/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        assert token
        form = {"username": "ada", "password": "guess", "csrfmiddlewaretoken": token[1]}
        return browser.post("/admin/login/", data=form).status_code


def test_a_tokens_requests_are_counted_together(pair: list[str]) -> None:
    token = issue_token(make.project(), "busy", requests_per_hour=10)
    headers = {"Authorization": f"Bearer {token}"}

    def ask(number: int) -> httpx.Response:
        return httpx.get(f"{pair[number % 2]}/v1/locations", headers=headers, timeout=60)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(24)))
    granted = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (len(granted), len(refused)) == (10, 14)
    left = sorted(int(answer.headers["RateLimit-Remaining"]) for answer in granted)
    assert left == list(range(10))
    assert all(answer.json()["error"]["code"] == "rate_limit_exceeded" for answer in refused)
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)


def test_wrong_passwords_are_counted_together_and_for_whom_a_proxy_here_names(
    pair: list[str],
) -> None:
    User.objects.create_superuser("ada", password="a-long-enough-password")
    stranger, other = "198.51.100.1", "198.51.100.2"
    tries = [
        try_to_log_in(pair[number % 2], stranger) for number in range(PER_ACCOUNT_THERE.burst + 2)
    ]
    assert tries == [200] * PER_ACCOUNT_THERE.burst + [429, 429]
    assert try_to_log_in(pair[0], other) == 200
