"""A Celery app whose tasks write down which request they think they work for."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from celery import Celery
from kombu import Exchange, Queue

from cloud import requestid
from cloud import taskcontext as taskcontext  # what is tested

NAME = "test.echo"

app = Celery("echo", broker=os.environ["ECHO_BROKER"], fixups=[])
app.conf.update(
    task_queues=[Queue(NAME, Exchange(NAME, "topic"), NAME)],
    task_default_queue=NAME,
    task_default_exchange=NAME,
    task_default_exchange_type="topic",
    task_default_routing_key=NAME,
    task_ignore_result=True,
    worker_enable_remote_control=False,
)


@app.task(name="echo")
def echo(label: str) -> None:
    """Writes "label id"; a label "loop..." asks inside of an event loop, "fail..." fails after."""

    async def ask() -> str | None:
        await asyncio.sleep(0.01)
        return requestid.current()

    known = asyncio.run(ask()) if label.startswith("loop") else requestid.current()
    with Path(os.environ["ECHO_FILE"]).open("a") as file:
        file.write(f"{label} {known}\n")
    if label.startswith("fail"):
        raise ValueError(label)
