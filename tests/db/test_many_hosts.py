"""What a host says costs the same however many hosts and servers there are, and so does a sweep."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from cloud.models import Host
from networks.models import Replica
from tests import factories as make
from tests.db import mesh
from vms import reconcile, usage
from vms.models import VM, Image
from vms.spec import SeenNetwork, SeenVm, UnchangedReport, Usage, UsageReport
from vms.unchanged import unchanged_report

pytestmark = [pytest.mark.django_db, pytest.mark.faults]


@pytest.fixture
def host() -> Host:
    make.host("h0", schedulable=False)
    host = make.host()
    mesh.heartbeat(host)
    return host


def servers(host: Host, count: int, **values: object) -> list[VM]:
    """Servers that are as they should be."""
    now = timezone.now()
    image = Image.objects.first() or make.image(deleted_at=now)
    facts = {
        "project": make.project(), "host": host, "server_type": make.server_type(), "image": image,
        "cores": 1, "memory_mb": 256, "disk_gb": 1, "observed_generation": 1, "observed_at": now,
        "observed_power": "running", "converged": True, "provisioned": True, "status": "running",
        "next_dispatch_at": now - timedelta(hours=1), **values,
    }  # fmt: skip
    return VM.objects.bulk_create(VM(name=f"server-{uuid.uuid4()}", **facts) for _ in range(count))


def swept() -> int:
    """How many statements one sweep is."""
    with CaptureQueriesContext(connection) as queries:
        reconcile.sweep()
    return len(queries)


def plan(rows: Iterable[tuple[str]]) -> str:
    return "\n".join(row[0] for row in rows)


def test_a_heartbeat_is_one_statement(
    host: Host, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    long_ago = timezone.now() - timedelta(seconds=20)
    Host.objects.update(last_heartbeat=long_ago)
    with django_assert_num_queries(1):
        mesh.heartbeat_of(host)
    host.refresh_from_db()
    assert host.last_heartbeat
    assert host.last_heartbeat > long_ago
    assert Host.objects.get(name="h0").last_heartbeat == long_ago


@pytest.mark.parametrize(
    "change",
    [
        {"boot_id": "boot-2"},
        {"leftovers": ("a tap of nobody",)},
        {"memory_mb": 1},
        {"tunnel_endpoint": "192.0.2.9:51820"},
    ],
)
def test_a_heartbeat_that_bears_news_is_written(host: Host, change: dict[str, object]) -> None:
    mesh.heartbeat(host, **change)
    host.refresh_from_db()
    ((name, value),) = change.items()
    assert getattr(host, name) == (list(value) if isinstance(value, tuple) else value)


def test_a_heartbeat_under_another_uuid_or_of_a_revoked_host_does_not_count(host: Host) -> None:
    long_ago = timezone.now() - timedelta(seconds=20)
    Host.objects.update(last_heartbeat=long_ago)
    mesh.heartbeat(host, host_uuid=str(uuid.uuid4()))
    Host.objects.filter(pk=host.pk).update(revoked_at=long_ago)
    mesh.heartbeat(host)
    host.refresh_from_db()
    assert host.last_heartbeat == long_ago


def test_all_that_is_unchanged_on_a_host_is_two_statements(
    host: Host, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    vms = servers(host, 50, observed_seq=7)
    replicas = [
        Replica.objects.create(
            network=mesh.network(f"network-{number}"), host=host,
            generation=1, observed_generation=1, converged=True,
        )
        for number in range(4)
    ]  # fmt: skip
    report = UnchangedReport(
        host_uuid=str(host.uuid),
        vms=tuple(SeenVm(vm.pk, str(vm.uuid), 7) for vm in vms),
        networks=tuple(SeenNetwork(replica.network_id, 1) for replica in replicas),
    )
    with django_assert_num_queries(2):
        unchanged_report(report, "host-h1")


def test_what_all_servers_of_a_host_use_is_one_statement(
    host: Host, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    usages = tuple(Usage(vm.pk, 60.0, cpu=1.0, memory_bytes=1) for vm in servers(host, 50))
    with django_assert_num_queries(1):
        usage.usage_report(UsageReport(str(host.uuid), 1.0, usages), "host-h1")


def test_a_sweep_costs_the_same_for_few_servers_and_for_many(host: Host) -> None:
    servers(host, 10)
    few = swept()
    servers(host, 1000)
    assert swept() == few
    assert few < 25


def test_a_sweep_costs_more_only_for_what_changed(host: Host) -> None:
    vms = servers(host, 500)
    at_rest = swept()
    VM.objects.filter(pk__in=[vm.pk for vm in vms[:10]]).update(converged=False)
    assert at_rest < swept() <= at_rest + 25
    assert VM.objects.filter(attempts=1).count() == 10


def test_the_sweep_reads_no_server_that_is_as_it_should_be(host: Host) -> None:
    """By the plan of PostgreSQL: the search for gaps goes by indexes that hold nothing else."""
    servers(host, 3000)
    now = timezone.now()
    found = VM.objects.due(now, observed_before=now - reconcile.STALE).exclude(host__in=[0])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE vms_vm")
        sql, values = found.values_list("pk", flat=True)[:200].query.sql_with_params()
        cursor.execute(f"EXPLAIN {sql}", values)
        explained = plan(cursor.fetchall())
    assert "vm_unmet" in explained
    assert "vm_by_observation" in explained
    assert "Seq Scan on vms_vm" not in explained


def test_servers_that_wait_for_a_silent_host_keep_no_others_waiting(host: Host) -> None:
    silent = Host.objects.get(name="h0")
    Host.objects.filter(pk=silent.pk).update(last_heartbeat=timezone.now() - timedelta(hours=1))
    servers(silent, reconcile.BATCH + 10, converged=False)
    servers(host, 1, converged=False)
    assert reconcile.dispatch_due_vms(timezone.now()) == 1
    assert [vm.host for vm in VM.objects.filter(attempts=1)] == [host]
