"""What a host's worker cannot take ends its Action with the reason, a full disk does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker

from cloud import agent
from cloud.broker import HOSTS_EXCHANGE, declare_cloud, declare_host
from cloud.hostconfig import HostConfig
from cloud.models import Action
from cloud.wire import encode
from deploy import broker as broker_service
from tests import factories as make
from tests.conftest import SERVICES
from tests.db.post import Post, call, letter, reading, until
from vms import dispatch
from vms.actions import PowerCommand, power
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


@pytest.fixture
def vm() -> VM:
    make.host()
    make.pool()
    return make.ordered().vm


@pytest.fixture(scope="module")
def worker(rabbitmq: str) -> Iterator[list[Any]]:
    """The worker of h1, whose task for servers does what stands in the list."""
    declare_cloud(rabbitmq)
    declare_host(rabbitmq, "h1")
    nowhere = Path("/nowhere")
    app = agent.make_app(HostConfig("h1", rabbitmq, state_dir=nowhere, run_dir=nowhere))
    app.conf.update(include=[])
    outcomes: list[Any] = []

    @app.task(name="vms.ensure")
    def ensure(document: dict[str, Any]) -> None:
        outcome = outcomes.pop(0) if outcomes else None
        if isinstance(outcome, Exception):
            raise outcome

    with start_worker(app, pool="threads", concurrency=1, perform_ping_check=False):
        yield outcomes


@pytest.fixture
def host_worker(rabbitmq: str, worker: list[Any]) -> Iterator[list[Any]]:
    broker_service.purge_all(SERVICES.instance)
    with reading(rabbitmq):
        yield worker


@pytest.fixture
def post(rabbitmq: str) -> Post:
    return Post(rabbitmq)


def test_a_document_that_a_host_cannot_take_ends_its_action_with_the_reason(
    post: Post, host_worker: list[Any], vm: VM
) -> None:
    document = encode(dispatch.spec_of(VM.objects.for_spec().get()))
    host_worker.append(ZeroDivisionError("no such wire"))
    post.send(
        call({**document, "cores": -3}),
        task="vms.ensure",
        exchange=HOSTS_EXCHANGE,
        key="host.h1",
        headers={"request_id": vm.request_id},
    )
    found = letter()
    assert (found.queue, found.host, found.request_id) == ("host.h1", "h1", vm.request_id)
    ended = Action.objects.filter(status="error")
    assert {one.error_code for one in ended} == {"host_failed"}
    assert sorted(found.actions) == sorted(one.pk for one in ended)
    assert len(found.actions) == 2
    assert power(vm, PowerCommand.POWEROFF).status == "running"


def test_an_error_of_the_hosts_machine_is_no_dead_letter(
    post: Post, host_worker: list[Any], vm: VM
) -> None:
    host_worker.append(OSError(28, "No space left on device"))
    document = encode(dispatch.spec_of(VM.objects.for_spec().get()))
    post.send(call(document), task="vms.ensure", exchange=HOSTS_EXCHANGE, key="host.h1")
    until(lambda: not host_worker)
    post.send(b"nonsense", task="vms.ensure", exchange=HOSTS_EXCHANGE, key="host.h1")
    assert "not JSON" in letter().explanation
    assert Action.objects.open().count() == 2
