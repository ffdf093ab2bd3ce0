"""Web servers as `deploy/up` starts them, on the tests' own database: real processes, real HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from django.db import connection

CHECKOUT = Path(__file__).parents[2]
_START_SECONDS = 60.0


@contextmanager
def web_processes(count: int, log: Path, **environment: str) -> Iterator[list[str]]:
    """The URLs of so many web servers that share everything but their memory."""
    ports = [_free_port() for _ in range(count)]
    env = {
        **os.environ,
        "CUMULET_DATABASE_URL": _database_url(),
        "CUMULET_LOG_FORMAT": "json",
        "PYTHONPATH": str(CHECKOUT),
        **environment,
    }
    env.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)
    with log.open("wb") as out:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "cloud.asgi", "--port", str(port)],
                env=env,
                cwd=CHECKOUT,
                stdout=out,
                stderr=out,
            )
            for port in ports
        ]
        try:
            urls = [f"http://127.0.0.1:{port}" for port in ports]
            for url in urls:
                _wait_for(url, log)
            yield urls
            assert [process.poll() for process in processes] == [None] * count, log.read_text()
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait(30)


def _database_url() -> str:
    """Of the database that the tests use, which pytest-django made under another name."""
    parts = urlsplit(os.environ["CUMULET_DATABASE_URL"])
    return parts._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            httpx.get(f"{url}/v1/locations", timeout=10)
        except httpx.HTTPError:
            assert time.monotonic() < deadline, f"{url}: {log.read_text()}"
            time.sleep(0.1)
        else:
            return
