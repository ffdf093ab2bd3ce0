"""Control's real worker against a host that knows its own password and means harm."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from celery.contrib.testing.worker import TestWorkController, start_worker
from django.conf import settings
from django.db import connections
from pytest_django import DjangoDbBlocker

from cloud import celery
from cloud.broker import declare_cloud, declare_host
from cloud.deadqueue import DeadQueue
from cloud.metrics import REFUSED_MESSAGES
from cloud.models import Action, DeadLetter, Host
from cloud.wire import encode
from tests import factories as make
from tests.db import hostile
from vms import dead_letters
from vms.models import VM
from vms.spec import HostReport

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.faults,
    # Celery's own test worker leaves its sockets to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
    ),
]
SECONDS = 20.0
UUID = "00000000-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def worker(
    rabbitmq: str, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Control's worker as `deploy/up` starts it, on this session's broker and database."""
    declare_cloud(rabbitmq)
    declare_host(rabbitmq, "h1")
    with django_db_blocker.unblock(), running():
        yield


class AsDeployed(TestWorkController):
    """Celery's own worker for tests never greets others nor hears their gossip; a real one may."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "without_mingle": False, "without_gossip": False})


@contextmanager
def running() -> Iterator[None]:
    """With what `cloud.celery` starts beside a worker once it is ready, as this one never says."""
    end = DeadQueue(settings.BROKER_URL, dead_letters.keep).start()
    options: dict[str, Any] = {"pool": "threads", "concurrency": 2, "perform_ping_check": False}
    try:
        with start_worker(celery.app, WorkController=AsDeployed, shutdown_timeout=30, **options):
            yield
    finally:
        end()


@pytest.fixture
def h1(rabbitmq: str, transactional_db: None) -> str:
    """The broker URL of host h1, whose server was asked for and is waited for."""
    declare_cloud(rabbitmq)
    host = make.host()
    make.pool()
    make.ordered()
    return hostile.credentials(rabbitmq, "h1", host.location)


def user(url: str) -> str:
    return urlsplit(url).username or ""


def refusals() -> dict[str, float]:
    (family,) = REFUSED_MESSAGES.collect()
    return {one.labels["reason"]: one.value for one in family.samples}


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def still_works(url: str) -> None:
    """An honest report that comes after is taken: the worker lives, and no message is stuck."""
    Host.objects.update(last_heartbeat=None)
    report = heartbeat(Host.objects.get(name="h1"))
    hostile.publish(
        url, hostile.body(encode(report)), hostile.headers("reports.host"), user_id=user(url)
    )
    until(lambda: Host.objects.get(name="h1").last_heartbeat is not None)


def heartbeat(host: Host, **facts: Any) -> HostReport:
    usual: dict[str, Any] = {
        "host": host.name,
        "host_uuid": str(host.uuid),
        "boot_id": "b",
        "agent_version": "1",
        "network_mode": "routed",
        "cores": 4,
        "memory_mb": 8000,
        "disk_gb": 100,
        "disk_free_gb": 90,
        "accelerator": "tcg",
        "accelerator_reason": "",
    }
    return HostReport(**{**usual, **facts})


def nothing_happened() -> bool:
    vm = VM.objects.get()
    actions = Action.objects.of("server", vm.pk)
    return vm.observed_generation == 0 and {one.status for one in actions} == {"running"}


def test_a_message_does_not_become_a_dead_letter_by_dying_on_purpose(
    rabbitmq: str, h1: str, django_db_blocker: DjangoDbBlocker
) -> None:
    """Whoever publishes may say when a message expires; the broker then carries it to the dead."""
    vm = VM.objects.get()
    letter = {"vm_id": vm.pk, "generation": 10**9, "host_uuid": UUID}
    forged = {"x-death": [{"queue": "host.h2", "exchange": "hosts", "reason": "delivery_limit"}]}
    hostile.publish(
        h1,
        hostile.body(letter),
        hostile.headers("vms.ensure", **forged),
        user_id=user(h1),
        expiration=0.001,
    )
    with django_db_blocker.unblock(), running():
        still_works(h1)
    assert nothing_happened()


def test_a_host_that_replaces_celerys_exchanges_stops_no_worker(
    h1: str, django_db_blocker: DjangoDbBlocker
) -> None:
    """Every worker declares these, so a host may as well; control's would not start with others."""
    with hostile.connected(h1) as connection:
        for name in ("celery.pidbox", "reply.celery.pidbox", "celeryev"):
            connection.default_channel.exchange_delete(name)
            connection.default_channel.exchange_declare(name, "headers", auto_delete=False)
    with django_db_blocker.unblock(), running():
        still_works(h1)
        assert celery.app.control.ping(timeout=5)


def nested(depth: int) -> bytes:
    """A table of AMQP with so many arrays within each other."""
    inner = b""
    for _ in range(depth):
        inner = b"A" + len(inner).to_bytes(4) + inner
    return (len(inner) + 2).to_bytes(4) + b"\x01a" + inner


LETTER = {"vm_id": 2**40, "generation": 10**9, "host_uuid": UUID}
DEEP = b'[[{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}], {}, {}]"
FLOORS = b'[[{"a":' + b'{"a":' * 400 + b"7" + b"}" * 401 + b"], {}, {}]"
CHAIN = [{"task": "vms.remove", "args": [{}], "options": {"exchange": "hosts"}}]

# What is wrong, the task, and what is beside an honest message of it.
HOSTILE: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "control's own work": ("foreign", "control.sweep", {}),
    "a dead letter that never lived": ("foreign", "vms.ensure", {}),
    "a task that nobody knows": ("foreign", "os.system", {}),
    "a report without a sender": ("unverified", "reports.host", {"user_id": None}),
    "work of control without a sender": ("unverified", "control.sweep", {"user_id": None}),
    "a task's name that is a list": ("malformed", ["reports.vm"], {}),
    "a task's name that is a number": ("malformed", 7, {}),
    "no headers": ("malformed", None, {"headers": {}}),
    "an id that is a table": ("malformed", "reports.vm", {"more": {"id": {"a": 1}}}),
    "a date at which to begin": ("malformed", "reports.vm", {"more": {"eta": "2999-01-01"}}),
    "more tries than one": ("malformed", "reports.vm", {"more": {"retries": -1000}}),
    "work for control to send on": (
        "malformed",
        "reports.vm",
        {"content": hostile.body({}, chain=CHAIN)},
    ),
    "work to send on after a failure": (
        "malformed",
        "reports.vm",
        {"content": hostile.body({}, errbacks=CHAIN)},
    ),
    "a bomb of a thousand times its size": (
        "malformed",
        "reports.vm",
        {"content": zlib.compress(b" " * 2**28), "more": {"compression": "application/x-gzip"}},
    ),
    "no JSON": ("malformed", "reports.vm", {"content": b"\x80\x04K\x01."}),
    "a pickle": (
        "malformed",
        "reports.vm",
        {"content": b"\x80\x04K\x01.", "content_type": "application/x-python-serialize"},
    ),
    "JSON of Celery's old protocol": (
        "malformed",
        None,
        {"content": b'{"task": "control.sweep", "args": []}', "headers": {}},
    ),
    "no list of arguments": ("malformed", "reports.vm", {"content": b"7"}),
    "two documents": ("malformed", "reports.vm", {"content": b"[[{}, {}], {}, {}]"}),
    "keyword arguments": ("malformed", "reports.vm", {"content": b'[[{}], {"self": 1}, {}]'}),
    "a document without a floor": ("malformed", "reports.vm", {"content": DEEP}),
    "a document of 400 floors": ("malformed", "reports.vm", {"content": FLOORS}),
    "half of a character": ("malformed", "reports.vm", {"content": hostile.body("\ud800")}),
    "what is no number": ("malformed", "reports.vm", {"content": b'[[{"at": NaN}], {}, {}]'}),
    "a NUL, which no text of PostgreSQL holds": (
        "malformed",
        "reports.vm",
        {"content": hostile.body({"boot_id": "a\0b"})},
    ),
    "a NUL in a key": ("malformed", "reports.vm", {"content": hostile.body({"a\0": [1]})}),
    "more than any host has to say": (
        "too_large",
        "reports.vm",
        {"content": hostile.body({"boot_id": "x" * 5 * 2**20})},
    ),
}


@pytest.mark.parametrize(("reason", "task", "beside"), HOSTILE.values(), ids=HOSTILE)
def test_it_is_dropped_counted_and_survived(
    worker: None, h1: str, reason: str, task: Any, beside: dict[str, Any]
) -> None:
    before = refusals().get(reason, 0)
    properties = dict(beside)
    head = hostile.headers(task, **properties.pop("more", {}))
    head = properties.pop("headers", head)
    # What is only unfit becomes a dead letter, which may end what waits for its own sender.
    named = LETTER if reason == "malformed" else {**LETTER, "vm_id": VM.objects.get().pk}
    content = properties.pop("content", hostile.body(named))
    sender = {"user_id": user(h1), **properties}
    if sender["user_id"] is None:
        del sender["user_id"]
    hostile.publish(h1, content, head, **sender)
    until(lambda: refusals().get(reason, 0) == before + 1)
    still_works(h1)
    assert nothing_happened()


def test_an_event_that_no_worker_sends_ends_no_worker(worker: None, h1: str) -> None:
    head = hostile.headers("reports.vm")
    event = {"exchange": "celeryev", "routing_key": "worker.elect.ack"}
    hostile.publish(h1, b"{}", head, **event)
    still_works(h1)
    assert celery.app.control.ping(timeout=5), "it took a last report, and ended"


# Flags of the properties that follow, and these: headers with a time stamp of the year 292 billion,
# tables within tables, a content type that is no UTF-8.
UNREADABLE = {
    "a time beyond all calendars": b"\x20\x00" + b"\x00\x00\x00\x0b\x01tT" + b"\x80" + bytes(7),
    "headers without a floor": b"\x20\x00" + nested(2000),
    "no UTF-8": b"\x80\x00" + b"\x02\xff\xfe",
}


@pytest.mark.parametrize("properties", UNREADABLE.values(), ids=UNREADABLE)
def test_properties_that_nobody_can_read_end_no_worker(
    worker: None, h1: str, properties: bytes
) -> None:
    before = refusals().get("malformed", 0)
    hostile.publish_raw(h1, properties)
    until(lambda: refusals().get("malformed", 0) == before + 1)
    until(lambda: DeadLetter.objects.exists())
    still_works(h1)


def test_what_control_sent_and_a_host_could_not_take_is_a_dead_letter(
    worker: None, rabbitmq: str, h1: str
) -> None:
    """The honest way, so that the refusals above are not those of a door that is always shut."""
    vm = VM.objects.get()
    letter = {"vm_id": vm.pk, "generation": vm.generation, "host_uuid": UUID}
    with hostile.connected(h1) as connection:
        channel = connection.default_channel
        channel.queue_purge("host.h1")  # hints of earlier tests
        assert celery.hint("host.h1", "vms.ensure", letter, summary="server")
        message: Any = None
        while message is None:
            message = channel.basic_get("host.h1")
        channel.basic_reject(message.delivery_tag, requeue=False)
        until(lambda: not Action.objects.of("server", vm.pk).open().exists())


def test_an_answer_of_one_host_changes_no_row_of_another_one(worker: None, h1: str) -> None:
    """Whatever its document says: the sender is h1, and what is h2's stays as it was."""
    other = make.host("h2", uuid=UUID)
    vm = VM.objects.get()
    VM.objects.update(host=other)
    heart = encode(heartbeat(other))
    forged = make.report(vm, host_uuid=UUID)
    for task, document in (("reports.host", heart), ("reports.vm", encode(forged))):
        hostile.publish(h1, hostile.body(document), hostile.headers(task), user_id=user(h1))
    still_works(h1)
    other.refresh_from_db()
    assert other.last_heartbeat is None
    assert nothing_happened()


def test_a_report_out_of_bounds_ends_with_its_own_task(worker: None, h1: str) -> None:
    """`tests/unit/test_report_bounds.py` has all of them; here one goes all the way."""
    report = encode(heartbeat(Host.objects.get(name="h1"), memory_mb=2**80, boot_id="new"))
    hostile.publish(h1, hostile.body(report), hostile.headers("reports.host"), user_id=user(h1))
    still_works(h1)
    assert Host.objects.get(name="h1").boot_id != "new"


@pytest.fixture(autouse=True, scope="module")
def no_connection_is_left() -> Iterator[None]:
    yield
    connections.close_all()
