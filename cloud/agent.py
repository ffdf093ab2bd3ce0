"""The host's Celery app: consumes this host's own queues and publishes its reports.

It declares nothing (control made the queues; the host's broker user may only read them), never
loads Django (`fixups=[]`), and knows its tasks through `vms.host.tasks`. Start it with
`python -m cloud.agent`; the monitor imports `publish` from here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog
from amqp.exceptions import AMQPError
from celery import Celery, shared_task
from celery.signals import setup_logging
from kombu import Queue
from kombu.exceptions import OperationalError

from cloud import intake, logsearch
from cloud import taskcontext as taskcontext  # binds the request of each task
from cloud.hostconfig import HostConfig, report_key
from cloud.logs import logging_config

log = structlog.get_logger(__name__)

REPORTS_EXCHANGE = "reports"
TASKS = "vms.host.tasks"

Handler = Callable[[dict[str, Any]], None]


@cache
def config() -> HostConfig:
    return HostConfig.from_environment()


@cache
def app() -> Celery:
    return make_app(config())


def make_app(host: HostConfig) -> Celery:
    """The Celery app of one host."""
    # An error of the machine (a full disk) says nothing about the message, which comes again.
    base = intake.task_class(passing=(OSError,))
    app = Celery(
        "host",
        broker=host.broker_url,
        fixups=[],
        set_as_current=True,
        task_cls=base,
        amqp="cloud.reconnection:Amqp",
    )
    # Without the queue argument Celery would ask for a global QoS, which quorum queues refuse.
    queues = [
        Queue(name, no_declare=True, queue_arguments={"x-queue-type": "quorum"})
        for name in (f"host.{host.name}", f"host.{host.name}.bulk")
    ]
    app.conf.update(
        include=[TASKS],
        task_queues=queues,
        task_create_missing_queues=False,
        task_default_queue=queues[0].name,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        worker_consumer="cloud.worker:HostConsumer",
        worker_hijack_root_logger=False,
        worker_detect_quorum_queues=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2,
        broker_heartbeat=10,
        broker_transport_options={"confirm_publish": True, "read_timeout": 20},
        enable_utc=True,
    )
    app.Task.Request = "cloud.inspection:SummaryRequest"
    return app


def task(name: str) -> Callable[[Handler], object]:
    """Make a function of one document a task of the host's app, under its name on the wire."""

    def register(handler: Handler) -> object:
        return shared_task(name=name)(handler)

    return register


def publish(task: str, document: dict[str, Any], *, summary: str) -> bool:
    """Send a report to control; False while the broker is away, or does not take it.

    `summary` is what people read in Flower instead of the arguments. The broker refuses a
    `user_id` that is not the one of the connection, so control can trust it.
    """
    try:
        app().send_task(
            task,
            args=[document],
            exchange=REPORTS_EXCHANGE,
            routing_key=report_key(config().name),
            user_id=unquote(urlsplit(config().broker_url).username or ""),
            argsrepr=f"({summary})",
            ignore_result=True,
            # One more try mends a connection that the broker closed while it was idle.
            retry=True,
            retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0},
        )
    except (OperationalError, AMQPError, OSError) as error:
        # Also where so many reports of this host wait already that the broker takes no further one.
        log.warning("broker away", report=summary, error=str(error))
        return False
    return True


def start_logging(service: str) -> None:
    """The same lines from every program of a host."""
    logging_config(
        os.environ.get("CUMULET_LOG_FORMAT"),
        os.environ.get("CUMULET_LOG_LEVEL", "INFO"),
        service=service,
        host=config().name,
    )


@setup_logging.connect
def _keep_our_logging(**_: Any) -> None:
    """Having a receiver stops Celery from replacing what `start_logging` configured."""


def main() -> None:
    start_logging("agent")
    # A machine that cannot be a host says so now, not at its first task.
    host = import_module(TASKS).host()
    # What outlives this process logs there; `manage.py trace` asks the agent for it.
    os.environ[logsearch.PATHS] = f"{os.environ.get(logsearch.PATHS, '')}:{host.paths.logs}"
    app().worker_main(
        [
            "--quiet",
            "worker",
            f"--hostname=agent@{config().name}",
            "--pool=threads",
            "--concurrency=4",
            "--without-mingle",
            "--without-gossip",
            "--loglevel=INFO",
            *sys.argv[1:],
        ]
    )


if __name__ == "__main__":
    # Not this module's own `main`: tasks import `cloud.agent`, and there must be one app only.
    from cloud import agent

    agent.main()
