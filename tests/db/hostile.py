"""A host's broker user as a thief of its password would use it: raw messages, no library's help."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import amqp
from kombu import Connection, Producer

from cloud.hosts import add_host
from cloud.models import Location

NOTHING_AFTERWARDS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def credentials(rabbitmq: str, host: str, location: Location) -> str:
    """The host joins; answers the broker URL with what its bundle holds."""
    login = urlsplit(add_host(host, location)["broker_url"]).netloc.rpartition("@")[0]
    broker = urlsplit(rabbitmq)
    return f"{broker.scheme}://{login}@{broker.hostname}:{broker.port}{broker.path}"


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    with Connection(url, connect_timeout=5) as connection:
        connection.connect()
        yield connection


def body(document: Any, **afterwards: Any) -> bytes:
    return json.dumps([[document], {}, {**NOTHING_AFTERWARDS, **afterwards}]).encode()


def headers(task: Any, **more: Any) -> dict[str, Any]:
    """What Celery's protocol 2 has, and whatever else a host may think of."""
    number = str(uuid.uuid4())
    return {"lang": "py", "task": task, "id": number, "root_id": number, "retries": 0, **more}


def publish(url: str, content: bytes, head: dict[str, Any], **properties: Any) -> None:
    """One message to where hosts may publish, unless said otherwise; the broker confirms it."""
    delivery = {
        "exchange": "reports",
        "routing_key": "report",
        "content_type": "application/json",
        "content_encoding": "utf-8",
        **properties,
    }
    options = {"confirm_publish": True}
    with Connection(url, transport_options=options, connect_timeout=5) as connection:
        Producer(connection).publish(content, headers=head, **delivery)


def publish_raw(url: str, properties: bytes, **where: Any) -> None:
    """A message with these bytes as its properties, which no library would write."""

    class Raw(amqp.Message):  # type: ignore[misc]  # untyped
        def _serialize_properties(self) -> bytes:
            return properties

    with Connection(url, transport_options={"confirm_publish": True}) as connection:
        target = {"exchange": "reports", "routing_key": "report", **where}
        connection.default_channel.basic_publish(Raw("{}"), **target)
