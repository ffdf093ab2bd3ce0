"""One host that goes mad: `python -m deploy.benchmarks.fleet.flood URL HOST SECONDS RATE`.

A process of its own, so that it takes no time from those that are measured. Publishes the same
valid heartbeat again and again, without waiting for the broker's confirmation; prints how many.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from celery import Celery
from kombu import Connection

from cloud.broker import broker_user
from cloud.hostconfig import report_key
from cloud.wire import encode
from deploy.benchmarks.fleet.hosts import PlayedHost
from deploy.benchmarks.fleet.names import uuid_of

_AT_ONCE = 100


def flood(url: str, host: str, seconds: float, rate: float) -> int:
    """Publishes for so long, at most `rate` messages a second; answers how many it sent."""
    sent = 0
    with Connection(url, heartbeat=0) as connection:
        channel: Any = connection.channel()
        # Made once: to make it takes longer than to send it.
        message = channel.prepare_message(**_message(host))
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            if sent >= passed * rate:
                time.sleep(0.001)
                continue
            for _ in range(_AT_ONCE):
                channel.basic_publish(message, exchange="reports", routing_key=report_key(host))
            sent += _AT_ONCE
    return sent


def _message(host: str) -> dict[str, Any]:
    document = encode(PlayedHost(host, uuid_of(host), (), ()).heartbeat())
    task = Celery("flood", fixups=[], set_as_current=False).amqp.as_task_v2(
        "flood", "reports.host", args=(document,)
    )
    return {
        "body": json.dumps(task.body).encode(),
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": task.headers,
        "properties": {**task.properties, "user_id": broker_user(host), "delivery_mode": 2},
    }


def main() -> None:
    url, host, seconds, rate = sys.argv[1:]
    print(flood(url, host, float(seconds), float(rate)))


if __name__ == "__main__":
    main()
