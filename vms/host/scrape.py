"""`GET /metrics` of a host, answered by its monitor. Nothing else is served.

On loopback everybody of this machine may read; on any other address a token is needed. The
monitor's work goes on whatever happens here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from hmac import compare_digest
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from io import BytesIO
from typing import ClassVar

import structlog

from cloud.errors import CumuletError
from cloud.families import CONTENT_TYPE
from cloud.hostconfig import MetricsEndpoint

log = structlog.get_logger(__name__)

REQUEST_SECONDS = 5.0
ANSWER_SECONDS = 2.0
_REQUEST_BYTES = 8192
# More at once than any Prometheus asks; the others are turned away.
_VISITORS = 8
_TEXT = "text/plain; charset=utf-8"

Contents = Callable[[], Awaitable[bytes]]
Answer = tuple[HTTPStatus, str, bytes]


class MetricsRefused(CumuletError):
    """The host's metrics cannot be served as configured."""

    code: ClassVar[str] = "metrics_refused"


@asynccontextmanager
async def serving(endpoint: MetricsEndpoint | None, contents: Contents) -> AsyncIterator[None]:
    """Serve meanwhile; what prevents it is logged, never raised."""
    server = None
    try:
        server = await _serve(endpoint, contents) if endpoint else None
    except MetricsRefused as error:
        log.warning("no metrics", code=error.code, reason=error.message)
    try:
        yield
    finally:
        if server:
            server.close()


async def _serve(endpoint: MetricsEndpoint, contents: Contents) -> asyncio.Server:
    """Raises MetricsRefused."""
    if not endpoint.is_local and not endpoint.token:
        raise MetricsRefused(
            f"{endpoint} can be reached by other machines: set CUMULET_HOST_METRICS_TOKEN too,"
            " or a loopback address in CUMULET_HOST_METRICS"
        )
    desk = _Desk(endpoint.token, contents)
    try:
        return await asyncio.start_server(
            desk.serve, str(endpoint.address), endpoint.port, limit=_REQUEST_BYTES
        )
    except OSError as error:
        raise MetricsRefused(
            f"cannot listen on {endpoint} ({error.strerror}): free the port, set another one in"
            " CUMULET_HOST_METRICS, or switch metrics off with CUMULET_HOST_METRICS=off"
        ) from error


class _Desk:
    """One request a connection."""

    def __init__(self, token: str, contents: Contents) -> None:
        self._token = token.encode()
        self._contents = contents
        self._visitors = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._visitors += 1
        try:
            if self._visitors > _VISITORS:
                return
            async with asyncio.timeout(REQUEST_SECONDS):
                request = await reader.readuntil(b"\r\n\r\n")
            status, kind, body = await self._answer(request)
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + body)
            async with asyncio.timeout(REQUEST_SECONDS):
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, OSError):
            return  # who does not finish a request gets no answer
        finally:
            self._visitors -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, request: bytes) -> Answer:
        line, _, rest = request.partition(b"\r\n")
        method, _, target = line.partition(b" ")
        try:
            headers = parse_headers(BytesIO(rest))
        except HTTPException:
            return _refusal(HTTPStatus.BAD_REQUEST, "too many headers")
        if target.partition(b" ")[0].partition(b"?")[0] != b"/metrics":
            return _refusal(HTTPStatus.NOT_FOUND, "only /metrics is here")
        if method != b"GET":
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, "only GET")
        if not self._admits(headers.get("Authorization", "")):
            advice = "send 'Authorization: Bearer TOKEN' with CUMULET_HOST_METRICS_TOKEN"
            return _refusal(HTTPStatus.UNAUTHORIZED, advice)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return HTTPStatus.OK, CONTENT_TYPE, await self._contents()
        except TimeoutError:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the host is too busy: try again")
        except (CumuletError, OSError):
            log.exception("scrape failed")
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "see the monitor's log")

    def _admits(self, authorization: str) -> bool:
        if not self._token:
            return True
        scheme, _, secret = authorization.partition(" ")
        return scheme.lower() == "bearer" and compare_digest(secret.strip().encode(), self._token)


def _refusal(status: HTTPStatus, advice: str) -> Answer:
    return status, _TEXT, f"{status.phrase}: {advice}\n".encode()
