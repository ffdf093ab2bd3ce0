"""What one host's credentials reach at RabbitMQ: its own queues and its own reports, only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from amqp.exceptions import AccessRefused, PreconditionFailed
from django.conf import settings

from cloud.broker import LANELESS, declare_cloud, declare_host, lane
from tests import factories as make
from tests.db import hostile

pytestmark = [pytest.mark.django_db, pytest.mark.faults, pytest.mark.usefixtures("rabbitmq")]

Attempt = Callable[[Any], object]
FOREIGN_QUEUES = ("host.h2", "host.h2.bulk", "control", LANELESS, "dead")
FOREIGN_EXCHANGES = ("hosts", "control", "dead", "celery.pidbox", "amq.topic", "amq.direct", "")


@pytest.fixture
def h1(rabbitmq: str) -> str:
    """The broker URL of host h1, beside which there is h2."""
    declare_cloud(rabbitmq)
    location = make.location()
    hostile.credentials(rabbitmq, "h2", location)
    return hostile.credentials(rabbitmq, "h1", location)


def refused(url: str, attempt: Attempt) -> None:
    with hostile.connected(url) as connection, pytest.raises(AccessRefused):
        attempt(connection.default_channel)


@pytest.mark.parametrize("queue", FOREIGN_QUEUES)
@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(lambda channel, queue: channel.basic_get(queue), id="take one message"),
        pytest.param(lambda channel, queue: channel.basic_consume(queue), id="consume"),
        pytest.param(lambda channel, queue: channel.queue_purge(queue), id="purge"),
        pytest.param(lambda channel, queue: channel.queue_delete(queue), id="delete"),
        pytest.param(lambda channel, queue: channel.queue_declare(queue), id="declare"),
        pytest.param(
            lambda channel, queue: channel.queue_bind(queue, "hosts", "host.#"), id="bind"
        ),
        pytest.param(lambda channel, queue: channel.queue_unbind(queue, "hosts", "#"), id="unbind"),
    ],
)
def test_a_foreign_queue_is_closed_to_it(h1: str, queue: str, attempt: Any) -> None:
    refused(h1, lambda channel: attempt(channel, queue))


@pytest.mark.parametrize("exchange", FOREIGN_EXCHANGES)
def test_it_cannot_publish_anywhere_but_to_the_reports(h1: str, exchange: str) -> None:
    with pytest.raises(AccessRefused):
        hostile.publish(h1, b"{}", {}, exchange=exchange, routing_key="host.h2")


@pytest.mark.parametrize("exchange", ["hosts", "control", "reports", "dead"])
def test_it_cannot_take_an_exchange_away_or_make_another_one_of_it(h1: str, exchange: str) -> None:
    refused(h1, lambda channel: channel.exchange_delete(exchange))
    refused(h1, lambda channel: channel.exchange_declare(exchange, "headers", auto_delete=False))


@pytest.mark.parametrize("queue", [LANELESS, lane("h1"), lane("h2")])
def test_nothing_comes_into_the_reports_by_an_exchange_of_its_own(h1: str, queue: str) -> None:
    """By that its messages would need no key of a report, and have any exchange and key at all."""
    own = "own@h1.celery.pidbox"
    with hostile.connected(h1) as connection:
        connection.default_channel.exchange_declare(own, "fanout", auto_delete=False)
    refused(h1, lambda channel: channel.queue_bind(queue, own, ""))
    refused(h1, lambda channel: channel.queue_bind(queue, "celery.pidbox", ""))


def test_its_own_queue_cannot_be_led_to_what_is_meant_for_others(h1: str) -> None:
    refused(h1, lambda channel: channel.queue_bind("host.h1", "hosts", "host.h2"))
    refused(h1, lambda channel: channel.queue_bind("host.h1", "reports", "report"))
    refused(h1, lambda channel: channel.exchange_bind("reports", "hosts", "host.h2"))


@pytest.mark.parametrize("exchange", ["", "hosts", "control", "dead"])
def test_its_mailbox_cannot_send_on_what_dies_in_it(h1: str, exchange: str) -> None:
    """The broker publishes dead letters itself; a queue's maker chooses where."""
    arguments = {"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": "control"}
    mailbox = "thief@h1.celery.pidbox"
    refused(h1, lambda channel: channel.queue_declare(mailbox, arguments=arguments))


@pytest.mark.parametrize("user", ["host-h2", "control", "guest"])
def test_it_cannot_say_that_another_one_sent_a_report(h1: str, user: str) -> None:
    with pytest.raises(PreconditionFailed):
        hostile.publish(h1, hostile.body({}), hostile.headers("reports.vm"), user_id=user)


def test_a_message_that_would_fill_the_memory_is_not_taken(h1: str) -> None:
    with pytest.raises(PreconditionFailed):
        hostile.publish(h1, b" " * (9 * 2**20), hostile.headers("reports.vm"))


def test_the_management_api_answers_it_nothing(h1: str) -> None:
    parts = urlsplit(h1)
    api = urlsplit(settings.BROKER_API_URL)
    login = (parts.username or "", parts.password or "")
    for path in ("whoami", "overview", "users", "queues", "connections", "definitions"):
        url = f"http://{api.hostname}:{api.port}/api/{path}"
        assert httpx.get(url, auth=login, timeout=10).status_code == httpx.codes.UNAUTHORIZED


def test_it_reads_its_own_queues_and_no_password_but_its_own_opens_them(h1: str) -> None:
    with hostile.connected(h1) as connection:
        for queue in ("host.h1", "host.h1.bulk"):
            connection.default_channel.basic_get(queue)
    parts = urlsplit(h1)
    foreign = h1.replace(f"{parts.username}:", "host-h2:")
    with pytest.raises(AccessRefused), hostile.connected(foreign):
        pass


def test_hosts_of_similar_names_are_strangers(rabbitmq: str) -> None:
    """`h1` must not open `h11`, nor `h-1` what a pattern could take for it."""
    location = make.location()
    for near in ("h11", "h1-bulk", "h"):
        declare_host(rabbitmq, near)
    url = hostile.credentials(rabbitmq, "h1", location)
    for near in ("host.h11", "host.h1-bulk", "host.h"):
        refused(url, lambda channel, queue=near: channel.basic_get(queue))
