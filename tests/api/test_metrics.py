"""`/metrics` for Prometheus, and a server's own metrics as the contract's clients ask for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from hcloud import Client as CloudClient
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from cloud.tokens import issue_token
from tests import factories as make
from tests.api.conftest import Answer, Api, api_of
from vms.actions import create_vm
from vms.models import VM, UsageSample

pytestmark = pytest.mark.django_db
START = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECRET = "s3cret-of-prometheus"


@pytest.fixture
def vm(lab: None) -> VM:
    return create_vm(make.project(), make.order()).vm


def measured(vm: VM, minutes: float, **values: Any) -> None:
    UsageSample.objects.create(
        **{
            "vm": vm,
            "at": START + timedelta(minutes=minutes),
            "seconds": 60.0,
            "cpu": 10.0,
            "memory_bytes": 1,
            **values,
        }
    )


def asked(api: Api, vm: VM, query: str = "type=cpu", *, hours: float = 1, **more: Any) -> Answer:
    end = START + timedelta(hours=hours)
    times = f"start={START:%FT%TZ}&end={end:%FT%TZ}"
    step = "".join(f"&{name}={value}" for name, value in more.items())
    return api.get(f"servers/{vm.pk}/metrics?{query}&{times}{step}")


def series(answer: Answer) -> dict[str, list[list[Any]]]:
    assert answer.status == 200, answer.json
    found = answer.json["metrics"]["time_series"]
    return {name: one["values"] for name, one in found.items()}


# For Prometheus


def scrape(**headers: str) -> Any:
    address = headers.pop("address", "127.0.0.1")
    return Client().get("/metrics", headers=headers, REMOTE_ADDR=address)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_the_machine_itself_may_read(lab: None, address: str) -> None:
    answer = scrape(address=address)
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b'cumulet_host_up{host="h1"} 1.0' in answer.content


@pytest.mark.parametrize(
    "request_",
    [
        {"address": "192.0.2.7"},
        {"address": "::ffff:192.0.2.7"},
        {"address": "unix"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-For": ""},
        {"Forwarded": "for=127.0.0.1"},
        {"address": "192.0.2.7", "Authorization": "Bearer wrong"},
        {"address": "192.0.2.7", "Authorization": f"Basic {SECRET}"},
        {"address": "192.0.2.7", "Authorization": "Bearer "},
    ],
)
def test_strangers_are_told_what_they_need(
    lab: None, settings: Settings, request_: dict[str, str]
) -> None:
    settings.METRICS_TOKEN = SECRET
    answer = scrape(**request_)
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert b"CUMULET_METRICS_TOKEN" in answer.content
    assert b"cumulet_" not in answer.content


def test_without_a_token_configured_an_empty_one_opens_nothing(lab: None) -> None:
    assert scrape(address="192.0.2.7", Authorization="Bearer").status_code == 401


def test_the_token_of_the_settings_opens_the_metrics(lab: None, settings: Settings) -> None:
    settings.METRICS_TOKEN = SECRET
    answer = scrape(address="192.0.2.7", Authorization=f"Bearer {SECRET}")
    assert answer.status_code == 200


def test_an_operators_token_opens_them_and_a_users_does_not(lab: None) -> None:
    operator = issue_token(make.project(), "operator", operator=True)
    user = issue_token(make.project(), "user")
    assert scrape(address="192.0.2.7", Authorization=f"Bearer {operator}").status_code == 200
    assert scrape(address="192.0.2.7", Authorization=f"Bearer {user}").status_code == 403


def test_requests_are_counted_by_pattern_and_never_by_path(api: Api) -> None:
    for number in (42424242, 42424243):
        api.get(f"servers/{number}")
    api.ask("BREW", "servers")
    text = scrape().content.decode()
    counted = 'cumulet_http_requests_total{method="GET",route="/v1/servers/<int:pk>",status="4xx"}'
    assert counted in text
    assert 'method="other"' in text
    assert "42424242" not in text
    assert "BREW" not in text


# Of one server


def test_every_series_of_the_contract_is_there(api: Api, vm: VM) -> None:
    measured(
        vm,
        1,
        disk_iops_read=1,
        disk_iops_write=2,
        disk_bandwidth_read=3,
        disk_bandwidth_write=4,
        network_pps_in=5,
        network_pps_out=6,
        network_bandwidth_in=7,
        network_bandwidth_out=8,
    )
    at = (START + timedelta(minutes=1)).timestamp()
    values = {
        "cpu": "10.000",
        "disk.0.iops.read": "1.000",
        "disk.0.iops.write": "2.000",
        "disk.0.bandwidth.read": "3.000",
        "disk.0.bandwidth.write": "4.000",
        "network.0.pps.in": "5.000",
        "network.0.pps.out": "6.000",
        "network.0.bandwidth.in": "7.000",
        "network.0.bandwidth.out": "8.000",
    }
    expected = {name: [[at, value]] for name, value in values.items()}
    assert series(asked(api, vm, "type=cpu,disk,network", step=60)) == expected
    assert series(asked(api, vm, "type=cpu&type=disk&type=network", step=60)) == expected


def test_a_step_holds_the_mean_of_its_samples_and_none_if_nothing_was_measured(
    api: Api, vm: VM
) -> None:
    measured(vm, 0, cpu=10.0)
    measured(vm, 1, cpu=40.0, seconds=120.0)
    measured(vm, 11, cpu=7.0)
    measured(vm, 60, cpu=99.0)  # the first moment after the period
    answer = asked(api, vm, "type=cpu,network", step=300)
    origin = START.timestamp()
    assert series(answer)["cpu"] == [[origin, "30.000"], [origin + 600, "7.000"]]
    assert series(answer)["network.0.pps.in"] == []
    assert answer.json["metrics"]["step"] == 300


def test_a_long_period_has_a_wider_step(api: Api, vm: VM) -> None:
    for minutes in range(0, 24 * 60, 2):
        measured(vm, minutes)
    for step, most in (({}, 200), ({"step": 1}, 500)):
        answer = asked(api, vm, hours=24, **step)
        assert len(series(answer)["cpu"]) <= most
        assert answer.json["metrics"]["step"] == pytest.approx(86400 / most, abs=1)


def test_an_answer_takes_one_query_however_much_was_measured(api: Api, vm: VM) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            asked(api, vm, "type=cpu,disk,network")
        return sum("vms_usagesample" in query["sql"] for query in captured)

    asked(api, vm)
    assert queries() == 1
    for minutes in range(60):
        measured(vm, minutes)
    assert queries() == 1


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", ["type", "start", "end"]),
        ("type=&start=2026-11-01T12:00:00Z&end=2026-11-01T13:00:00Z", ["type"]),
        ("type=memory&start=2026-11-01T12:00:00Z&end=2026-11-01T13:00:00Z", ["type"]),
        ("type=cpu&start=yesterday&end=2026-11-01T13:00:00Z", ["start"]),
        ("type=cpu&start=2026-11-01T13:00:00Z&end=2026-11-01T13:00:00Z", ["end"]),
        *(
            (f"type=cpu&start=2026-11-01T12:00:00Z&end=2026-11-01T13:00:00Z&step={step}", ["step"])
            for step in ("0", "-1", "nan", "inf", "often", "1e300")
        ),
    ],
)
def test_bad_input_is_named(api: Api, vm: VM, query: str, fields: list[str]) -> None:
    answer = api.get(f"servers/{vm.pk}/metrics?{query}")
    assert (answer.status, answer.code, answer.fields) == (422, "invalid_input", fields)


def test_another_projects_server_has_no_metrics(vm: VM) -> None:
    assert asked(api_of(make.project("other")), vm).status == 404


@pytest.mark.django_db(transaction=True)
def test_the_official_client_reads_them(api: Api, vm: VM, live_server: LiveServer) -> None:
    measured(vm, 1, cpu=25.0)
    client = CloudClient(token=str(api.token), api_endpoint=f"{live_server.url}/v1")
    server = client.servers.get_by_id(vm.pk)
    found = server.get_metrics(["cpu", "disk"], START, START + timedelta(hours=1), step=60).metrics
    assert (found.start, found.end, found.step) == (START, START + timedelta(hours=1), 60)
    at = (START + timedelta(minutes=1)).timestamp()
    assert found.time_series["cpu"]["values"] == [[at, "25.000"]]
    assert found.time_series["disk.0.iops.read"]["values"] == []
