"""Whatever a worker cannot take is a row with a reason; its Action ends, and nothing is blocked.

A real RabbitMQ, control's own worker with its reader of dead letters, and a host's worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from celery.contrib.testing.worker import start_worker
from django.db import connections
from django.utils import timezone
from kombu import Connection

from cloud import celery
from cloud.broker import (
    DEAD,
    HOSTS_EXCHANGE,
    LANELESS,
    Administration,
    declare_cloud,
    declare_host,
)
from cloud.errors import Conflict
from cloud.metrics import REGISTRY
from cloud.models import Action, DeadLetter
from cloud.poison import MOST_BYTES
from cloud.wire import encode
from deploy import broker as broker_service
from tests import factories as make
from tests.conftest import SERVICES
from tests.db.post import Post, call, letter, reading, ready_messages, until
from vms import dead_letters, dispatch, reconcile, reports
from vms.models import VM

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.faults,
    # Celery's own test worker leaves its sockets to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning",
        "ignore::ResourceWarning",
        "ignore::PendingDeprecationWarning",
        "ignore::DeprecationWarning",
    ),
]

SECRET = "planted-secret"


@pytest.fixture
def url(rabbitmq: str) -> str:
    declare_cloud(rabbitmq)
    declare_host(rabbitmq, "h1")
    broker_service.purge_all(SERVICES.instance)
    return rabbitmq


@pytest.fixture
def post(url: str) -> Post:
    return Post(url)


@pytest.fixture
def as_host(url: str) -> Post:
    """With h1's own broker user, who may write reports and nothing else."""
    api = Administration(broker_service.api_url(SERVICES.instance), url)
    api.ensure_host_user("h1", "pw-h1")
    parts = urlsplit(url)
    user = f"{quote('host-h1')}:pw-h1"
    return Post(f"{parts.scheme}://{user}@{parts.hostname}:{parts.port}{parts.path}")


@pytest.fixture
def vm() -> VM:
    make.host()
    make.pool()
    return make.ordered().vm


@pytest.fixture(scope="module", autouse=True)
def no_connection_is_kept() -> None:
    """Threads of the worker would keep theirs after the last test."""
    connections.settings["default"]["CONN_MAX_AGE"] = 0


@pytest.fixture(scope="module")
def worker(rabbitmq: str) -> Iterator[None]:
    declare_cloud(rabbitmq)
    with start_worker(celery.app, pool="threads", concurrency=2, perform_ping_check=False):
        yield


@pytest.fixture
def control(url: str, worker: None) -> Iterator[None]:
    with reading(url):
        yield


# Each is a body, what comes with it, and what people read about it.
POISON: dict[str, tuple[object, dict[str, Any], str]] = {
    "not JSON": (b"\x00\xffnot json", {}, "its body is not JSON"),
    "another content type": (
        b"\x80\x04N.",
        {"content_type": "application/x-python-serialize"},
        "its content type is 'application/x-python-serialize'",
    ),
    "an unknown encoding": (b"[]", {"content_encoding": "rot13"}, "its encoding is 'rot13'"),
    "no task": (call({}), {"task": None}, "it names no task"),
    "no task id": (call({}), {"id": None}, "it has no task id"),
    "an unknown task": (call({}), {"task": "reports.nonsense"}, "No task 'reports.nonsense'"),
    "a number for a body": (5, {}, "its body is not a list of arguments"),
    "nested without end": (b"[" * 100_000, {}, "its body is not JSON"),
    "wrong arguments": (call({}, 1, 2, 3), {}, "control refuses what is malformed"),
    "no arguments": (call(), {}, "Its task failed: TypeError"),
    "an incomplete document": (call({"version": 1}), {}, "Its task failed: MalformedDocument"),
    "a document of another wire version": (call({"version": 99}), {}, "of wire version 99"),
    "a document that is none": (call("text"), {}, "control refuses what is malformed"),
    "too large": (b'["' + b"x" * MOST_BYTES + b'"]', {}, "bytes, at most"),
    "held until the year 3000": (
        call({}),
        {"headers": {"eta": "3000-01-01T00:00:00"}},
        "its header 'eta' is set",
    ),
    "a compressed bomb": (call({}), {"headers": {"compression": "zlib"}}, "'compression' is set"),
    "callbacks": (call({}, callbacks=[{"task": "vms.remove"}]), {}, "it carries 'callbacks'"),
}


@pytest.mark.parametrize("kind", POISON)
def test_a_poisoned_message_of_each_kind_is_a_letter_and_blocks_nobody(
    kind: str, as_host: Post, control: None, vm: VM
) -> None:
    body, options, said = POISON[kind]
    as_host.send(body, user_id="host-h1", **options)
    as_host.send(call(encode(make.report(vm))), user_id="host-h1")
    found = letter()
    assert said in found.explanation
    assert (found.queue, found.times) == (LANELESS, 1)
    until(lambda: VM.objects.filter(pk=vm.pk, provisioned=True).exists())


def test_a_report_that_crashes_control_is_a_letter_and_ends_its_action(
    as_host: Post, control: None, vm: VM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError("a row that nobody expected")

    monkeypatch.setattr(reports, "vm_report", crash)
    as_host.send(call(encode(make.report(vm))), user_id="host-h1", headers={"request_id": "req-7"})
    found = letter()
    assert found.explanation == "Its task failed: ZeroDivisionError: a row that nobody expected"
    assert (found.task, found.sender, found.host) == ("reports.vm", "host-h1", "h1")
    assert (found.resource_type, found.resource_id) == ("server", vm.pk)
    assert found.request_id == "req-7"
    ended = Action.objects.get(command="create_server")
    assert (ended.status, ended.error_code) == ("error", "report_failed")
    assert ended.pk in found.actions
    assert "nobody expected" in ended.error_message


def test_a_host_cannot_make_control_send_messages_with_its_rights(
    as_host: Post, post: Post, control: None, vm: VM
) -> None:
    removal = encode(dispatch.removal_of(vm))
    signature = {
        "task": "vms.remove",
        "args": [removal],
        "kwargs": {},
        "options": {"exchange": HOSTS_EXCHANGE, "routing_key": "host.h1"},
        "subtask_type": None,
        "immutable": True,
    }
    before = ready_messages("host.h1")
    as_host.send(
        call(encode(make.report(vm)), callbacks=[signature], errbacks=[signature]),
        user_id="host-h1",
    )
    assert "it carries 'callbacks'" in letter().explanation
    assert ready_messages("host.h1") == before


def test_a_host_cannot_end_actions_about_servers_of_another(
    as_host: Post, control: None, vm: VM
) -> None:
    make.host("h2")
    VM.objects.update(host=make.location().hosts.get(name="h2"))
    document = {"vm_id": vm.pk, "generation": 99}
    as_host.send(call(document), user_id="host-h1", headers={"request_id": vm.request_id})
    assert letter().actions == []
    assert Action.objects.open().count() == 2


def test_the_headers_of_a_sender_do_not_say_how_a_message_died(
    as_host: Post, control: None, vm: VM
) -> None:
    forged = [{"queue": "host.h2", "reason": "delivery_limit", "exchange": "hosts"}]
    as_host.send(b"nonsense", user_id="host-h1", headers={"x-death": forged})
    found = letter()
    assert (found.queue, found.host) == (LANELESS, "h1")


def test_a_message_that_kills_its_worker_each_time_is_counted_out(
    url: str, post: Post, control: None, vm: VM
) -> None:
    """As if the process had died: each time the connection ends without an answer."""
    declare_host(url, "h3")
    VM.objects.update(host=make.host("h3"))
    document = encode(dispatch.spec_of(VM.objects.for_spec().get()))
    post.send(call(document), task="vms.ensure", exchange=HOSTS_EXCHANGE, key="host.h3")
    for _ in range(6):
        with Connection(url) as connection:
            until(lambda channel=connection.default_channel: channel.basic_get("host.h3"))
    found = letter("delivery_limit")
    assert found.deliveries >= 5
    assert "died of it, each time" in found.explanation
    assert Action.objects.filter(error_code="host_failed").count() == 2


def test_no_secret_of_a_message_is_kept(as_host: Post, control: None, vm: VM) -> None:
    document = {"vm_id": vm.pk, "user_data": SECRET, "nested": [{"root_password_hash": SECRET}]}
    as_host.send(call({**document, "url": f"amqp://u:{SECRET}@h/"}), user_id="host-h1")
    half = b'[[{"vm_id": 1, "user_data": "' + SECRET.encode()
    as_host.send(half, user_id="host-h1", id="t-2")
    until(lambda: DeadLetter.objects.count() == 2)
    for found in DeadLetter.objects.all():
        assert SECRET not in found.excerpt + found.explanation
        assert "vm_id" in found.excerpt


def test_letters_alike_are_one_row_and_the_oldest_beyond_the_bound_go(
    post: Post, control: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MOST_LETTERS", 3)
    for number in range(6):
        post.send(b"nonsense", task=f"reports.kind{number}")
    for _ in range(4):
        post.send(b"nonsense", task="reports.kind5")
    until(lambda: DeadLetter.objects.filter(task="reports.kind5", times=5).exists())
    assert [one.task for one in DeadLetter.objects.all()] == [
        "reports.kind5",
        "reports.kind4",
        "reports.kind3",
    ]
    reconcile.tidy(timezone.now() + timedelta(days=31))
    assert not DeadLetter.objects.exists()


def test_no_host_displaces_the_letters_of_others(
    as_host: Post, post: Post, control: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MOST_LETTERS_OF_A_HOST", 3)
    post.send(b"nonsense", task="reports.others")
    for number in range(6):
        as_host.send(b"nonsense", task=f"reports.kind{number}", user_id="host-h1")
    until(lambda: DeadLetter.objects.filter(task="reports.kind5").exists())
    assert DeadLetter.objects.filter(task="reports.others").exists()
    assert DeadLetter.objects.filter(host="h1").count() == 3


def test_dead_letters_are_counted(post: Post, control: None) -> None:
    labels = {"queue": LANELESS, "reason": "rejected"}
    before = REGISTRY.get_sample_value("cumulet_dead_letters_total", labels) or 0.0
    post.send(b"nonsense")
    letter()
    assert REGISTRY.get_sample_value("cumulet_dead_letters_total", labels) == before + 1


def test_a_sweep_that_nobody_took_in_time_is_no_letter(url: str, post: Post) -> None:
    declare_host(url, "h3")  # whom nobody works for
    hosts = {"exchange": HOSTS_EXCHANGE, "key": "host.h3"}
    post.send(call(), task="control.sweep", expiration=0.1, **hosts)
    until(lambda: ready_messages(DEAD) == 1)
    post.send(b"nonsense")
    with reading(url):
        assert letter().queue == LANELESS
        until(lambda: ready_messages(DEAD) == 0)


def test_a_flood_of_dead_letters_cannot_fill_the_broker(url: str, post: Post) -> None:
    api = Administration(broker_service.api_url(SERVICES.instance), url)
    api.ensure_policies()
    with httpx.Client(base_url=broker_service.api_url(SERVICES.instance)) as browser:
        until(lambda: browser.get("/api/queues/cumulet/dead").json().get("policy"))
        found = browser.get("/api/queues/cumulet/dead").json()["effective_policy_definition"]
    assert found["overflow"] == "drop-head"
    assert found["max-length"] == 10_000


def test_asking_again_tells_the_host_what_should_be_now(vm: VM, url: str) -> None:
    declare_host(url, "h3")
    VM.objects.update(host=make.host("h3"))
    VM.objects.update(attempts=7, next_dispatch_at=timezone.now() + timedelta(hours=1))
    found = DeadLetter.objects.create(
        digest="1", queue="host.h3", host="h3", reason="rejected", explanation="-", bytes=1,
        resource_type="server", resource_id=vm.pk,
    )  # fmt: skip
    broker_service.purge_all(SERVICES.instance)
    dead_letters.ask_again(found)
    assert ready_messages("host.h3") == 1
    vm.refresh_from_db()
    assert vm.attempts == 0
    assert found.asked_again_at is not None
    found.resource_id = 987_654
    with pytest.raises(Conflict, match="forget the letter"):
        dead_letters.ask_again(found)
