"""Spans that leave for a collector, in a process of their own as in production."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from cloud import shell
from cloud.telemetry import ENDPOINT, trace_id_of
from deploy.state import CHECKOUT

# One request to the API that asks for what does not exist, then a task for the same request.
WORK = """
import os, django
django.setup()
from django.test import Client
headers = {"Host": "localhost", "X-Request-ID": "r-1"}
answer = Client().get("/v1/nowhere", headers=headers)
from celery import Celery
from cloud import taskcontext
app = Celery("one", broker="memory://", fixups=[])
@app.task(name="vms.ensure")
def ensure(): raise ValueError("no")
ensure.apply(headers={"request_id": "r-1"}, throw=False)
print(answer.status_code)
"""
NO_PACKAGES = "import sys; sys.modules['opentelemetry'] = None\n"

pytestmark = pytest.mark.trace


class Collector(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    received: list[ExportTraceServiceRequest] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def collector() -> Iterator[str]:
    """Its URL."""
    Collector.received.clear()
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def work(endpoint: str, script: str = WORK) -> tuple[str, list[dict[str, object]]]:
    """What the process printed, and its log."""
    result = shell.run(
        [sys.executable, "-c", script],
        timeout=60,
        cwd=CHECKOUT,
        env={ENDPOINT: endpoint, "CUMULET_LOG_FORMAT": "json", "CUMULET_SERVICE": "web"},
    )
    lines = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    return result.stdout.strip(), lines


def test_spans_and_log_lines_of_a_request_name_each_other(collector: str) -> None:
    answered, lines = work(collector)
    spans = {
        span.name: span
        for request in Collector.received
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    }
    assert answered == "404"
    assert spans.keys() == {"GET v1/<path:rest>", "vms.ensure"}
    for span in spans.values():
        attributes = {pair.key: pair.value.string_value for pair in span.attributes}
        assert attributes["cumulet.request_id"] == "r-1"
        assert span.trace_id.hex() == trace_id_of("r-1")
    assert spans["vms.ensure"].status.code == 2  # error
    ours = [line for line in lines if line.get("request_id") == "r-1"]
    assert ours
    assert all(line["trace_id"] == trace_id_of("r-1") for line in ours)


def test_without_an_endpoint_nothing_is_loaded_and_no_line_names_a_trace() -> None:
    script = WORK + "import sys; print('opentelemetry' in sys.modules)"
    answered, lines = work("", script)
    assert answered.split() == ["404", "False"]
    assert not any("trace_id" in line for line in lines)


def test_missing_packages_are_said_and_end_nothing() -> None:
    answered, lines = work("http://127.0.0.1:9", NO_PACKAGES + WORK)
    assert answered == "404"
    assert "install opentelemetry-sdk" in str(lines[0]["event"])


@pytest.mark.parametrize(
    ("request_id", "trace_id"),
    [
        ("1-67891233-abcdef012345678912345678", "67891233abcdef012345678912345678"),
        ("5e2b1f6a-8f7e-4d3a-9a51-0d9f0f3f6c11", "5e2b1f6a8f7e4d3a9a510d9f0f3f6c11"),
    ],
)
def test_ids_that_are_trace_ids_already_keep_their_digits(request_id: str, trace_id: str) -> None:
    assert trace_id_of(request_id) == trace_id
