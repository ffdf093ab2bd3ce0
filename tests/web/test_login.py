"""Passwords cannot be tried for ever, and nobody keeps an administrator out by trying."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client

from cloud.buckets import Bucket
from cloud.logins import PER_ACCOUNT, PER_ACCOUNT_THERE, PER_ADDRESS, PER_DEVICE
from cloud.metrics import LOGINS
from tests.web.conftest import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.faults]


@pytest.fixture(autouse=True)
def ada(db: None, settings: Any) -> None:
    """An administrator whose password costs little to look at: hundreds are tried here."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    User.objects.create_superuser("ada", password=PASSWORD)


def post(
    account: str, password: str, address: str = "192.0.2.1", client: Client | None = None
) -> Any:
    """One try, by a browser of its own unless one is given."""
    return (client or Client()).post(
        "/admin/login/?next=/admin/",
        {"username": account, "password": password},
        REMOTE_ADDR=address,
    )


def later(**time: float) -> None:
    Bucket.objects.update(at=F("at") - timedelta(**time))


def counted(result: str) -> float:
    (family,) = LOGINS.collect()
    return sum(one.value for one in family.samples if one.labels["result"] == result)


def test_after_a_few_wrong_passwords_the_page_says_when_to_try_again() -> None:
    for _ in range(PER_ACCOUNT_THERE.burst):
        assert post("ada", "guess").status_code == 200
    before = counted("refused")
    answer = post("ada", PASSWORD)
    assert answer.status_code == 429
    assert 0 < int(answer["Retry-After"]) <= PER_ACCOUNT_THERE.seconds_each + 1
    assert re.search(r"Try again at \d\d:\d\d:\d\d UTC, in \d+ seconds", answer.content.decode())
    assert counted("refused") == before + 1
    later(seconds=PER_ACCOUNT_THERE.seconds_each)
    assert post("ada", PASSWORD).status_code == 302


def test_an_unknown_account_is_refused_in_the_same_way() -> None:
    """Who is refused must not learn whether there is such an account."""
    answers = {
        account: [post(account, "guess") for _ in range(PER_ACCOUNT_THERE.burst + 1)]
        for account in ("ada", "nobody")
    }
    known, unknown = ([one.status_code for one in some] for some in answers.values())
    assert known == unknown == [200] * PER_ACCOUNT_THERE.burst + [429]


@pytest.mark.parametrize("same", ["ADA", "Ada", "\uff41\uff44\uff41"])
def test_other_letters_for_one_account_are_no_new_tries(same: str) -> None:
    for _ in range(PER_ACCOUNT_THERE.burst):
        post("ada", "guess")
    assert post(same, "guess").status_code == 429


def test_one_address_cannot_try_many_accounts() -> None:
    for number in range(PER_ADDRESS.burst):
        assert post(f"user{number}", "guess").status_code == 200
    assert post("ada", PASSWORD).status_code == 429
    assert post("ada", PASSWORD, address="192.0.2.2").status_code == 302


def test_all_addresses_of_an_ipv6_network_are_one() -> None:
    for number in range(PER_ACCOUNT_THERE.burst):
        post("ada", "guess", address=f"2001:db8::{number:x}")
    assert post("ada", "guess", address="2001:db8::ffff:1").status_code == 429
    assert post("ada", "guess", address="2001:db8:0:1::1").status_code == 200


def test_many_addresses_together_cannot_try_one_account_for_ever() -> None:
    for number in range(PER_ACCOUNT.burst):
        assert post("ada", "guess", address=f"198.51.100.{number}").status_code == 200
    assert post("ada", "guess", address="203.0.113.1").status_code == 429


def test_strangers_do_not_keep_out_who_logged_in_with_this_browser_before() -> None:
    browser = Client()
    assert post("ada", PASSWORD, client=browser).status_code == 302
    del browser.cookies["sessionid"]
    for number in range(PER_ACCOUNT.burst + 5):
        post("ada", "guess", address=f"198.51.100.{number}")
    assert post("ada", PASSWORD, address="203.0.113.1").status_code == 429
    assert post("ada", PASSWORD, address="203.0.113.1", client=browser).status_code == 302


def test_a_known_browser_has_its_own_limit_and_is_known_for_one_account_alone() -> None:
    User.objects.create_user("eve", password=PASSWORD, is_staff=True)
    browser = Client()
    post("eve", PASSWORD, client=browser)
    del browser.cookies["sessionid"]
    for _ in range(PER_DEVICE.burst):
        assert post("eve", "guess", client=browser).status_code == 200
    assert post("eve", PASSWORD, client=browser).status_code == 429
    for _ in range(PER_ACCOUNT_THERE.burst):
        post("ada", "guess", client=browser)
    assert post("ada", "guess", client=browser).status_code == 429


def test_a_forged_cookie_is_worth_nothing() -> None:
    browser = Client()
    for number in range(PER_ACCOUNT_THERE.burst):
        browser.cookies["cumulet_device"] = f"device-{number}:signature"
        post("ada", "guess", client=browser)
    browser.cookies["cumulet_device"] = "another:signature"
    assert post("ada", "guess", client=browser).status_code == 429


def test_who_knows_the_password_is_never_slowed_down() -> None:
    for _ in range(3 * PER_ADDRESS.burst):
        assert post("ada", PASSWORD).status_code == 302


def test_a_name_of_any_kind_is_only_a_wrong_name() -> None:
    for name in ("x" * 150, "a\u202eb", "' OR 1=1 --", "\U0001f600"):
        assert post(name, "guess").status_code == 200
