"""Headers as they come off the wire, byte by byte: the real web server is asked."""

from __future__ import annotations

import socket
import uuid
from urllib.parse import urlsplit

import pytest

from deploy.cloud import Cloud
from tests.api.test_requestid import HOSTILE, TAKEN
from tests.e2e.world import World

pytestmark = pytest.mark.trace

# A line break in a header begins another one: that is no value any more.
_VALUES = [one for one in HOSTILE if "\n" not in str(one.values[0])]


def ask(cloud: Cloud, *headers: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer; `headers` are sent as they are."""
    address = urlsplit(cloud.instance.api_url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        lines = [b"GET /v1/locations HTTP/1.1", b"Host: localhost", b"Connection: close", *headers]
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        answer = b""
        while part := connection.recv(65536):
            answer += part
    first, *rest = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    found = dict(line.lower().split(": ", 1) for line in rest)
    return int(first.split()[1]), found


@pytest.mark.parametrize(("headers", "taken"), TAKEN)
def test_the_callers_id_comes_back(world: World, headers: dict[str, str], taken: str) -> None:
    sent = [f"{name}: {value}".encode() for name, value in headers.items()]
    status, answer = ask(world.cloud, *sent)
    assert status == 401
    assert answer["x-request-id"] == answer["x-correlation-id"] == taken.lower()


@pytest.mark.parametrize("value", _VALUES)
@pytest.mark.parametrize("name", ["X-Request-ID", "X-Correlation-ID", "X-Amzn-Trace-Id"])
def test_what_is_no_id_is_refused_or_replaced(world: World, name: str, value: str) -> None:
    raw = value.encode("utf-8", "surrogatepass")
    status, answer = ask(world.cloud, name.encode() + b": " + raw)
    assert status in (400, 401, 431)
    assert value.lower() not in "\n".join(answer.values())
    if status == 401:
        assert uuid.UUID(answer["x-request-id"]).version == 4


def test_an_id_that_is_sent_twice_is_none(world: World) -> None:
    status, answer = ask(world.cloud, b"X-Request-ID: one", b"X-Request-ID: two")
    assert status == 401
    assert uuid.UUID(answer["x-request-id"]).version == 4
