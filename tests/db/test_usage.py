"""Samples of hosts are stored once, averaged when they are old, and forgotten at last."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tests import factories as make
from vms import reconcile, usage
from vms.models import VM, UsageSample
from vms.spec import Usage, UsageReport

pytestmark = pytest.mark.django_db
SENDER = "host-h1"
# A full half hour, long past.
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=3)


@pytest.fixture
def vm() -> VM:
    make.host()
    make.pool()
    return make.ordered().vm


def report(*vms: VM, at: datetime | None = None, host_uuid: str = "", **facts: Any) -> UsageReport:
    values = {"seconds": 60.0, "cpu": 50.0, "memory_bytes": 1000, **facts}
    return UsageReport(
        host_uuid=host_uuid or str(vms[0].host.uuid),
        at=(at or timezone.now()).timestamp(),
        usages=tuple(Usage(vm_id=vm.pk, **values) for vm in vms),
    )


def samples() -> list[tuple[datetime, float, float]]:
    return list(UsageSample.objects.order_by("at").values_list("at", "seconds", "cpu"))


def test_a_report_is_one_insertion_for_all_servers_and_is_taken_once(
    vm: VM, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    second = make.ordered("web-2").vm
    told = report(vm, second, disk_iops_read=2.0)
    with django_assert_num_queries(1):
        usage.usage_report(told, SENDER)
    usage.usage_report(told, SENDER)
    assert UsageSample.objects.count() == 2
    sample = UsageSample.objects.get(vm=second)
    assert (sample.cpu, sample.disk_iops_read, sample.network_pps_in) == (50.0, 2.0, None)


def test_only_the_senders_own_servers_are_written(vm: VM) -> None:
    other = make.host("h2")
    usage.usage_report(report(vm), "host-h2")
    usage.usage_report(report(vm, host_uuid=str(other.uuid)), "host-h2")
    usage.usage_report(report(vm, host_uuid="00000000-0000-0000-0000-000000000000"), SENDER)
    assert not UsageSample.objects.exists()


def test_no_host_stores_more_than_it_can_measure(vm: VM) -> None:
    for seconds in (0, 1, 29, -3600, 40, 60):
        usage.usage_report(report(vm, at=NOON + timedelta(seconds=seconds)), SENDER)
    assert [at for at, *_ in samples()] == [NOON, NOON + timedelta(seconds=40)]


def test_a_clock_that_is_ahead_measures_nothing_of_tomorrow(vm: VM) -> None:
    usage.usage_report(report(vm, at=timezone.now() + timedelta(days=1)), SENDER)
    assert UsageSample.objects.get().at <= timezone.now()


def test_a_deleted_server_takes_its_samples_along(vm: VM) -> None:
    usage.usage_report(report(vm), SENDER)
    vm.delete()
    assert not UsageSample.objects.exists()


def test_old_samples_become_averages_of_half_hours_weighted_by_their_length(vm: VM) -> None:
    for minutes, seconds, cpu, reads in ((1, 60.0, 10.0, None), (30, 180.0, 50.0, 8.0)):
        at = NOON + timedelta(minutes=minutes)
        told = report(vm, at=at, seconds=seconds, cpu=cpu, disk_iops_read=reads)
        usage.usage_report(told, SENDER)
    usage.usage_report(report(vm, at=NOON + timedelta(minutes=31), cpu=90.0), SENDER)
    reconcile.tidy(LATER)
    half, hour = (NOON + timedelta(minutes=minutes) for minutes in (30, 60))
    assert samples() == [(half, 1800.0, 40.0), (hour, 1800.0, 90.0)]
    assert UsageSample.objects.get(at=half).disk_iops_read == 8.0
    reconcile.tidy(LATER)
    assert len(samples()) == 2


def test_samples_of_the_last_two_days_stay_as_they_were_measured(vm: VM) -> None:
    usage.usage_report(report(vm, at=NOON), SENDER)
    reconcile.tidy(NOON + usage.KEEP_SAMPLES - timedelta(minutes=1))
    assert samples() == [(NOON, 60.0, 50.0)]


def test_a_sample_that_comes_after_its_half_hour_was_averaged_disturbs_nothing(vm: VM) -> None:
    usage.usage_report(report(vm, at=NOON + timedelta(minutes=1)), SENDER)
    usage.condense(LATER)
    usage.usage_report(report(vm, at=NOON + timedelta(minutes=2), cpu=0.0), SENDER)
    usage.condense(LATER)
    assert samples() == [(NOON + timedelta(minutes=30), 1800.0, 50.0)]


def test_averages_are_forgotten_after_thirty_days(vm: VM) -> None:
    usage.usage_report(report(vm, at=NOON), SENDER)
    reconcile.tidy(LATER)
    reconcile.tidy(NOON + timedelta(days=29))
    assert len(samples()) == 1
    reconcile.tidy(NOON + timedelta(days=31))
    assert samples() == []
