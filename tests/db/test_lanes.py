"""Each host reports in a lane of its own: nobody uses another's, and a full one holds up nobody."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from amqp.exceptions import AccessRefused
from celery import Celery
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from kombu import Connection, Producer, Queue

from cloud import lanes, shell
from cloud.broker import REPORTS, Administration, broker_user, declare_cloud, declare_host, lane
from cloud.hostconfig import report_key
from cloud.wire import encode
from deploy import control, postgres
from deploy.state import CHECKOUT
from tests import factories as make
from tests.conftest import SERVICES
from tests.e2e.world import until
from vms.spec import UnchangedReport

pytestmark = pytest.mark.faults
MAD, CALM = "mad", "calm"
PASSWORD = "of-both"


@pytest.fixture
def hosts(rabbitmq: str) -> Iterator[None]:
    """Two hosts as `host_add` admits them to the broker."""
    administration = Administration(settings.BROKER_API_URL, settings.BROKER_URL)
    declare_cloud(rabbitmq)
    administration.ensure_policies()
    for host in (MAD, CALM):
        declare_host(rabbitmq, host)
        administration.ensure_host_user(host, PASSWORD)
    yield
    for host in (MAD, CALM):
        administration.remove_host_user(host)
        with Connection(rabbitmq) as connection:
            for name in (lane(host), f"host.{host}", f"host.{host}.bulk"):
                Queue(name, channel=connection.default_channel).delete()


def as_host(host: str, broker: str) -> Connection:
    address = broker.rpartition("@")[2]
    return Connection(
        f"amqp://{broker_user(host)}:{PASSWORD}@{address}",
        transport_options={"confirm_publish": True},
    )


def say(
    connection: Connection, host: str, key: str, times: int = 1, task: str = "reports.unchanged"
) -> None:
    """The shortest valid report, so many times; as another `task` it is forged."""
    message = Celery("host", fixups=[], set_as_current=False).amqp.as_task_v2(
        "said", task, args=(encode(UnchangedReport(str(uuid.uuid4()))),)
    )
    producer = Producer(connection.channel(), auto_declare=False)
    for _ in range(times):
        producer.publish(
            message.body,
            headers=message.headers,
            exchange=REPORTS,
            routing_key=key,
            user_id=broker_user(host),
            serializer="json",
            **message.properties,
        )


def waiting(host: str, broker: str) -> int:
    with Connection(broker) as connection:
        queue = Queue(lane(host), channel=connection.default_channel)
        return int(queue.queue_declare(passive=True).message_count)


def test_a_report_waits_in_the_lane_of_its_host(hosts: None, rabbitmq: str) -> None:
    with as_host(CALM, rabbitmq) as connection:
        say(connection, CALM, report_key(CALM), times=3)
    assert (waiting(CALM, rabbitmq), waiting(MAD, rabbitmq)) == (3, 0)


def test_no_host_fills_the_lane_of_another(hosts: None, rabbitmq: str) -> None:
    with as_host(MAD, rabbitmq) as connection, pytest.raises(AccessRefused):
        say(connection, MAD, report_key(CALM))
    assert waiting(CALM, rabbitmq) == 0


@pytest.mark.django_db
def test_the_upgrade_binds_a_host_of_before_there_were_lanes_to_its_own(
    hosts: None, rabbitmq: str
) -> None:
    make.host(MAD)
    vhost = rabbitmq.rpartition("/")[2]
    topics = f"{settings.BROKER_API_URL}/api/topic-permissions/{vhost}/{broker_user(MAD)}"
    httpx.delete(topics).raise_for_status()
    call_command("broker_setup")
    with as_host(MAD, rabbitmq) as connection, pytest.raises(AccessRefused):
        say(connection, MAD, report_key(CALM))


def test_a_host_of_before_there_were_lanes_is_still_heard(hosts: None, rabbitmq: str) -> None:
    with as_host(CALM, rabbitmq) as connection:
        say(connection, CALM, "report")


def limits(queue: str, broker: str) -> dict[str, object]:
    url = f"{settings.BROKER_API_URL}/api/queues/{broker.rpartition('/')[2]}/{queue}"
    found: dict[str, object] = httpx.get(url).json().get("effective_policy_definition") or {}
    return found


def test_a_lane_takes_no_more_than_it_can_hold(hosts: None, rabbitmq: str) -> None:
    def limit() -> object:
        return limits(lane(MAD), rabbitmq).get("overflow")

    until(lambda: limit() == "reject-publish", "the policy holds", seconds=30)
    assert limits(lane(MAD), rabbitmq)["max-length"] == 10_000


def test_what_a_silent_host_is_told_does_not_wait_for_ever(hosts: None, rabbitmq: str) -> None:
    for queue in (f"host.{MAD}", f"host.{MAD}.bulk"):
        until(
            lambda queue=queue: limits(queue, rabbitmq).get("message-ttl") == 300_000,
            "the policy holds",
            seconds=30,
        )


@pytest.mark.parametrize("name", [f"any@{MAD}.celery.pidbox", "celeryev"])
def test_a_queue_of_its_own_holds_little_and_not_for_long(
    hosts: None, rabbitmq: str, name: str
) -> None:
    with as_host(MAD, rabbitmq) as connection:
        queue = Queue(name, channel=connection.default_channel, durable=True)
        queue.queue_declare()
        try:
            until(lambda: limits(name, rabbitmq), "the policy holds", seconds=30)
            assert limits(name, rabbitmq) == {"max-length-bytes": 2**20, "expires": 60_000}
        finally:
            queue.delete()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("task", ["reports.unchanged", "control.sweep"])
def test_a_flood_delays_no_other_host(
    hosts: None, rabbitmq: str, tmp_path: Path, task: str
) -> None:
    """A real worker: the calm host's report is taken while thousands of the mad one's wait.

    No sweep tells the worker of the hosts, it opens their lanes as it starts.
    """
    for name in (MAD, CALM):
        make.host(name)
    with as_host(MAD, rabbitmq) as connection:
        say(connection, MAD, report_key(MAD), times=3000, task=task)
    database = connections["default"].settings_dict["NAME"]
    environment = {
        **control.environment(SERVICES.instance),
        "CUMULET_DATABASE_URL": postgres.url(SERVICES.instance, database),
        "PYTHONPATH": str(CHECKOUT),
    }
    argv = [sys.executable, "-m", "celery", "-A", "cloud.celery", "worker", "-Q", "control"]
    worker = shell.spawn(
        [*argv, "--pool", "threads", "--concurrency", "2"],
        log=tmp_path / "worker.log",
        env=environment,
    )
    try:
        until(lambda: waiting(MAD, rabbitmq) < 3000, "the worker listens", seconds=60)
        with as_host(CALM, rabbitmq) as connection:
            say(connection, CALM, report_key(CALM), times=20)
        began = time.monotonic()
        until(lambda: waiting(CALM, rabbitmq) == 0, "the calm host is heard", seconds=30)
        left = waiting(MAD, rabbitmq)
        assert left > 500, f"the flood was over first, after {time.monotonic() - began:.1f} s"
        until(
            lambda: "talks too much" in (tmp_path / "worker.log").read_text(),
            "the lane is closed",
            seconds=60,
        )
        closed_at = waiting(MAD, rabbitmq)
        time.sleep(2)
        assert waiting(MAD, rabbitmq) > closed_at - lanes.BURST / 4
    finally:
        worker.terminate()
        worker.wait(30)
