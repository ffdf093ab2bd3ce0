"""The control plane's Celery app: its queues, its periodic sweep, and how messages leave it.

Messages carry work, they are not the truth: `hint` may lose one, and `vms.reconcile` makes up
for it. Only this module, `cloud.agent` and what surrounds their tasks know Celery; everybody
else sends by task name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import structlog
from amqp.exceptions import AMQPError
from celery import Celery
from celery.signals import setup_logging, task_postrun, worker_ready, worker_shutdown
from kombu.exceptions import OperationalError as BrokerAway

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cloud.settings")

from django.conf import settings

from cloud import intake, lanes, metrics, workerdb
from cloud import taskcontext as taskcontext  # binds the request of each task
from cloud.broker import HOSTS_EXCHANGE, control_queue, laneless_queue, user_of

log = structlog.get_logger(__name__)

# RabbitMQ verifies it, and `cloud.admission` takes control's own work from nobody else.
_OWN_USER = user_of(settings.BROKER_URL)

app = Celery(
    "control",
    broker=settings.BROKER_URL,
    include=["vms.tasks"],
    amqp="cloud.reconnection:Amqp",
    fixups=["cloud.workerdb:fixup"],
    task_cls=intake.task_class(workerdb.AWAY, pause=workerdb.wait),
)
app.conf.update(
    task_queues=[control_queue(), laneless_queue()],
    task_default_queue="control",
    task_default_exchange="control",
    task_default_exchange_type="topic",
    task_default_routing_key="control",
    task_create_missing_queues=False,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    # Of each queue, and there is one for every host: what a worker holds of all of them is what
    # the next sweep waits behind.
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    broker_native_delayed_delivery_queue_type="classic",
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_connection_timeout=2,
    broker_heartbeat=30,
    worker_consumer="cloud.doorkeeper:ControlConsumer",
    beat_scheduler="cloud.beat:Scheduler",
    # A sweep that could not run in its own interval is worthless: the next one does its work.
    beat_schedule={
        "sweep": {
            "task": "control.sweep",
            "schedule": settings.SWEEP_SECONDS,
            "options": {"expires": settings.SWEEP_SECONDS, "user_id": _OWN_USER},
        },
        "tidy": {
            "task": "control.tidy",
            "schedule": 3600.0,
            "options": {"expires": 3600.0, "user_id": _OWN_USER},
        },
    },
)
app.Task.Request = "cloud.inspection:SummaryRequest"


def once_listening(do: Callable[[], object]) -> Callable[[], object]:
    """Do it when the worker is ready to take messages."""
    worker_ready.connect(lambda **_: do(), weak=False)
    return do


def beside_worker(start: Callable[[], Callable[[], None]]) -> None:
    """Run something in the worker's process while the worker runs; `start` answers what ends it."""
    running: list[Callable[[], None]] = []
    once_listening(lambda: running.append(start()))

    def end(**_: Any) -> None:
        while running:
            running.pop()()

    worker_shutdown.connect(end, weak=False)


@setup_logging.connect
def _keep_our_logging(**_: Any) -> None:
    """Having a receiver stops Celery from replacing what cloud.settings configured."""


@worker_ready.connect
def _attach_lanes(sender: Any, **_: Any) -> None:
    lanes.attach(sender)


@task_postrun.connect
def _count(task: Any, state: str, **_: Any) -> None:
    metrics.TASKS.labels(task.name, state).inc()


def hint(queue: str, task: str, document: dict[str, Any], *, summary: str) -> bool:
    """Send work to a host's queue, at once or not at all; False if the broker is away.

    `summary` is what people read in Flower instead of the arguments, which may hold secrets.
    """
    try:
        app.send_task(
            task,
            args=[document],
            exchange=HOSTS_EXCHANGE,
            routing_key=queue,
            user_id=_OWN_USER,
            argsrepr=f"({summary})",
            ignore_result=True,
            # One more try mends a connection that the broker closed while it was idle.
            retry=True,
            retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0},
        )
    except (BrokerAway, AMQPError, OSError) as error:
        log.warning("broker away, the sweep will send again", queue=queue, error=str(error))
        return False
    return True
