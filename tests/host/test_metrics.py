"""What the monitor tells of its VMs: numbers that grow with what a guest does, whatever hangs."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address

import httpx
from prometheus_client.parser import text_string_to_metric_families

from cloud.hostconfig import MetricsEndpoint
from tests.host.world import World, second, until
from vms.spec import Usage, VmSpec

LOOPBACK = MetricsEndpoint(ip_address("127.0.0.1"), 19723)
OUTWARD = MetricsEndpoint(ip_address("0.0.0.0"), 19723)
SECRET = "s3cret-of-prometheus"
LABELS = ("vm", "name", "disk", "nic")
Numbers = dict[tuple[str, ...], float]


@contextmanager
def measuring(world: World, endpoint: MetricsEndpoint = LOOPBACK) -> Iterator[None]:
    """A monitor that serves metrics runs beside the test."""
    config = replace(world.host.config, metrics=endpoint)
    world.host = replace(world.host, config=config)
    with world.watched():
        yield


def scraped() -> Numbers:
    """Each value under its name and the values of its labels, in the order of LABELS."""
    answer = ask()
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, *(sample.labels[label] for label in LABELS if label in sample.labels)): (
            sample.value
        )
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def ask(path: str = "/metrics", **headers: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{LOOPBACK.port}{path}", headers=headers, timeout=5)


def listens() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", LOOPBACK.port)) == 0


def connected(spec: VmSpec) -> bool:
    return scraped()["cumulet_vm_silent", str(spec.vm_id), spec.hostname] == 0


def test_the_numbers_of_a_guest_grow_with_what_it_does(world: World) -> None:
    spec = world.boot()
    vm = (str(spec.vm_id), spec.hostname)
    with measuring(world):
        until(lambda: connected(spec), "QEMU answers the monitor")
        before = scraped()
        assert before["cumulet_vm_up", *vm] == 1
        assert before["cumulet_vm_cpu_seconds_total", *vm] > 0
        assert before["cumulet_vm_memory_configured_bytes", *vm] == spec.memory_mb * 2**20
        assert 2**24 < before["cumulet_vm_memory_bytes", *vm] < 2**31
        # Past the page cache of the guest, to disk 0; and back over the network.
        write = "dd if=/dev/zero of=/dev/vda bs=64k count=32 conv=fsync; sync"
        read = "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda of=/dev/null bs=64k count=32"
        world.ssh(spec, f"{write}; {read}; dd if=/dev/zero bs=1k count=300")
        after = scraped()

    def grew(name: str, *labels: str) -> float:
        return after[name, *vm, *labels] - before[name, *vm, *labels]

    assert grew("cumulet_vm_cpu_seconds_total") > 0
    for device in ("disk_reads", "disk_writes"):
        assert grew(f"cumulet_vm_{device}_total", "0") > 0
    for device in ("disk_read", "disk_written"):
        assert grew(f"cumulet_vm_{device}_bytes_total", "0") >= 2**21
    # The guest sent much more than it got: directions are its own.
    sent = grew("cumulet_vm_network_out_bytes_total", "0")
    assert sent > 300_000 > grew("cumulet_vm_network_in_bytes_total", "0") > 0
    assert grew("cumulet_vm_network_in_packets_total", "0") > 0


def test_the_host_tells_of_itself(world: World) -> None:
    with measuring(world):
        until(lambda: world.heartbeats, "a heartbeat")
        found = scraped()
        assert found["cumulet_node_cores",] == os.cpu_count()
        assert 0 < found["cumulet_node_memory_free_bytes",] < found["cumulet_node_memory_bytes",]
        assert 0 < found["cumulet_node_disk_free_bytes",] < found["cumulet_node_disk_bytes",]
        assert found["cumulet_node_report_age_seconds",] < 10
        assert found["cumulet_node_vms",] == found["cumulet_node_unsent_reports",] == 0


def test_a_silent_qemu_costs_only_its_own_numbers(world: World) -> None:
    spec = world.spec()
    other = second(spec)
    for one in (spec, other):
        world.ensure(one)
    with measuring(world):
        until(lambda: connected(spec) and connected(other), "both answer")
        process = world.process(spec)
        assert process
        os.kill(process.pid, signal.SIGSTOP)
        try:
            answer = ask()
            found = scraped()
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert answer.elapsed.total_seconds() < 2.5
        assert found["cumulet_vm_silent", str(spec.vm_id), spec.hostname] == 1
        assert found["cumulet_vm_up", str(spec.vm_id), spec.hostname] == 1
        assert found["cumulet_vm_silent", str(other.vm_id), other.hostname] == 0
        assert ("cumulet_vm_disk_reads_total", str(other.vm_id), other.hostname, "0") in found


def test_usage_reaches_control_and_starts_over_with_qemu(world: World) -> None:
    spec = world.spec()
    world.ensure(spec)

    def latest() -> Usage:
        return world.usage_reports[-1].usages[0]

    with measuring(world):
        until(lambda: world.usage_reports, "usage")
        until(lambda: latest().disk_iops_read is not None, "usage with disks")
        assert world.usage_reports[-1].host_uuid == world.host.uuid
        assert (latest().vm_id, latest().network_pps_in is None) == (spec.vm_id, False)
        assert 0 < latest().seconds < 5
        restarted = world.ensure(world.spec(generation=spec.generation + 1, reset_serial=1))
        assert restarted.converged
        count = len(world.usage_reports)
        until(lambda: len(world.usage_reports) > count + 1, "usage of the new run")
    for report in world.usage_reports:
        for usage in report.usages:
            assert 0 <= usage.cpu < 100 * (os.cpu_count() or 1) + 50
            assert (usage.disk_iops_read or 0) < 10**6


def test_a_host_without_guests_sends_no_usage(world: World) -> None:
    with measuring(world):
        until(lambda: len(world.heartbeats) >= 1, "a heartbeat")
        until(listens, "metrics are served")
    assert not world.usage_reports


def test_only_metrics_are_served(world: World) -> None:
    with measuring(world):
        until(listens, "metrics are served")
        assert ask("/").status_code == 404
        url = f"http://127.0.0.1:{LOOPBACK.port}/metrics"
        assert httpx.post(url).status_code == 405
        with socket.create_connection(("127.0.0.1", LOOPBACK.port), timeout=5) as rude:
            rude.sendall(b"x" * 20_000)
            with suppress(ConnectionResetError):
                assert rude.recv(1) == b""
        assert ask().status_code == 200


def test_other_machines_need_the_token(world: World) -> None:
    with measuring(world, replace(OUTWARD, token=SECRET)):
        until(listens, "metrics are served")
        assert ask().status_code == 401
        assert ask(Authorization="Bearer wrong").status_code == 401
        assert ask(Authorization=f"Bearer {SECRET}").status_code == 200


def test_without_a_token_nothing_is_served_to_other_machines(world: World) -> None:
    with measuring(world, OUTWARD):
        until(lambda: world.heartbeats, "a heartbeat")
        assert not listens()


def test_a_port_that_is_taken_does_not_stop_the_monitor(world: World) -> None:
    with socket.create_server(("127.0.0.1", LOOPBACK.port)), measuring(world):
        until(lambda: world.heartbeats, "a heartbeat")
