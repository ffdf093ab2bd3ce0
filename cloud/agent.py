"""The host's Celery app: consumes this host's own queues and publishes its reports.

It declares nothing (control made the queues; the host's broker user may only read them), never
loads Django (`fixups=[]`), and knows its tasks through `vms.host.tasks`. Start it with
`python -m cloud.agent`; the monitor imports `publish` from here.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from celery import Celery
from kombu import Queue

from cloud.hostconfig import HostConfig

REPORTS_EXCHANGE = "reports"


@cache
def config() -> HostConfig:
    return HostConfig.from_environment()


def make_app(host: HostConfig) -> Celery:
    """The Celery app of one host."""
    app = Celery("host", broker=host.broker_url, fixups=[], set_as_current=True)
    # Without the queue argument Celery would ask for a global QoS, which quorum queues refuse.
    queues = [
        Queue(name, no_declare=True, queue_arguments={"x-queue-type": "quorum"})
        for name in (f"host.{host.name}", f"host.{host.name}.bulk")
    ]
    app.conf.update(
        include=["vms.host.tasks"],
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
        worker_hijack_root_logger=False,
        worker_detect_quorum_queues=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=10,
        broker_transport_options={"confirm_publish": True, "read_timeout": 20},
        enable_utc=True,
    )
    return app


def publish(app: Celery, task: str, document: dict[str, Any], *, summary: str) -> None:
    """Send a report to control. Raises kombu's OperationalError while the broker is away.

    `summary` is what people read in Flower instead of the arguments. The broker refuses a
    `user_id` that is not the one of the connection, so control can trust it.
    """
    user = app.connection_for_write().as_uri(include_password=False)
    app.send_task(
        task,
        args=[document],
        exchange=REPORTS_EXCHANGE,
        routing_key="report",
        user_id=_user_of(user),
        argsrepr=f"({summary})",
        retry=False,
        ignore_result=True,
    )


def _user_of(uri: str) -> str:
    return uri.split("://", 1)[1].split("@", 1)[0].split(":", 1)[0]


def main() -> None:
    host = config()
    app = make_app(host)
    app.worker_main(
        [
            "worker",
            f"--hostname=agent@{host.name}",
            "--pool=threads",
            "--concurrency=4",
            "--without-mingle",
            "--without-gossip",
            "--loglevel=INFO",
            *sys.argv[1:],
        ]
    )


if __name__ == "__main__":
    main()
