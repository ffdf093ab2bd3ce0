"""What Prometheus is told about the cloud, and that asking costs the same however large it is."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks

from cloud.actions import end_action
from cloud.families import exposition
from cloud.metrics import REGISTRY
from cloud.models import Action, Host
from tests import factories as make
from vms import reports
from vms.actions import PowerCommand, power
from vms.gauges import Inventory
from vms.models import VM

pytestmark = pytest.mark.django_db
SENDER = "host-h1"


@pytest.fixture
def vm() -> VM:
    """A server that is as wanted."""
    make.host(cores=4, memory_mb=8192, disk_gb=100)
    make.pool("203.0.113.0/28")
    vm = make.ordered().vm
    reports.vm_report(make.report(vm), SENDER)
    vm.refresh_from_db()
    return vm


def scraped() -> dict[tuple[str, ...], float]:
    """Each value under its name and the values of its labels."""
    text = exposition(Inventory()).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ended(command: str, result: str) -> float:
    labels = {"command": command, "result": result}
    return REGISTRY.get_sample_value("cumulet_actions_total", labels) or 0.0


def test_a_cloud_at_rest(vm: VM) -> None:
    found = scraped()
    assert found["cumulet_host_up", "h1"] == 1
    assert found["cumulet_host_heartbeat_age_seconds", "h1"] < 60
    assert found["cumulet_host_queue_age_seconds", "h1"] == 0
    assert found["cumulet_host_drift_age_seconds", "h1"] == 0
    assert found["cumulet_servers", "h1", "running"] == 1
    assert found["cumulet_actions_open",] == found["cumulet_actions_open_age_seconds",] == 0


def test_capacity_is_told_as_it_is_promised(vm: VM) -> None:
    found = scraped()
    assert (found["cumulet_host_cores", "h1"], found["cumulet_host_cores_claimed", "h1"]) == (32, 1)
    assert found["cumulet_host_memory_bytes", "h1"] == 8192 * 2**20
    assert found["cumulet_host_memory_claimed_bytes", "h1"] == 256 * 2**20
    assert found["cumulet_host_disk_claimed_bytes", "h1"] == 2**30
    pool = "pool 203.0.113.0/28"
    assert (found["cumulet_addresses", pool, "held"], found["cumulet_addresses", pool, "free"]) == (
        1,
        13,
    )


def test_a_host_that_never_spoke_has_no_heartbeat_age_and_is_not_up() -> None:
    make.host(last_heartbeat=None)
    found = scraped()
    assert found["cumulet_host_up", "h1"] == 0
    assert ("cumulet_host_heartbeat_age_seconds", "h1") not in found


def test_the_queue_is_as_old_as_the_oldest_document_without_an_answer(vm: VM) -> None:
    power(vm, PowerCommand.POWEROFF)
    five, six = (timezone.now() - timedelta(minutes=minutes) for minutes in (5, 6))
    VM.objects.update(goal_since=five, converged_at=six)
    found = scraped()
    assert found["cumulet_host_queue_age_seconds", "h1"] == pytest.approx(300, abs=5)
    assert found["cumulet_actions_open",] == 1
    reports.vm_report(make.report(vm, converged=False), SENDER)
    found = scraped()
    assert found["cumulet_host_queue_age_seconds", "h1"] == 0
    assert found["cumulet_host_drift_age_seconds", "h1"] == pytest.approx(300, abs=5)


def test_drift_is_counted_from_when_the_server_was_last_as_wanted(vm: VM) -> None:
    week, hour = (timezone.now() - timedelta(**ago) for ago in ({"days": 7}, {"hours": 1}))
    VM.objects.update(goal_since=week, converged_at=hour)
    reports.vm_report(make.report(vm, converged=False), SENDER)
    assert scraped()["cumulet_host_drift_age_seconds", "h1"] == pytest.approx(3600, abs=5)


def test_a_silent_host_is_not_up(vm: VM) -> None:
    Host.objects.update(last_heartbeat=timezone.now() - timedelta(hours=1))
    found = scraped()
    assert found["cumulet_host_up", "h1"] == 0
    assert found["cumulet_host_heartbeat_age_seconds", "h1"] == pytest.approx(3600, abs=5)


def test_a_scrape_takes_as_many_queries_for_thirty_servers_as_for_one(
    vm: VM, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(4):
        scraped()
    make.host("h2", disk_gb=1000)
    make.pool("203.0.113.64/26")
    for number in range(2, 30):
        make.ordered(f"web-{number}")
    with django_assert_num_queries(4):
        scraped()


def test_an_action_is_counted_when_its_end_is_committed_and_once(
    vm: VM, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    action = power(vm, PowerCommand.POWEROFF)
    again = Action.objects.get(pk=action.pk)
    before = ended("stop_server", "error")
    with django_capture_on_commit_callbacks(execute=True):
        assert end_action(action, timezone.now(), code="timeout")
        assert not end_action(again, timezone.now(), code="timeout")
        assert ended("stop_server", "error") == before
    assert ended("stop_server", "error") == before + 1
