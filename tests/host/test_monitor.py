"""What the host says of itself, what its guests run on, and what its monitor makes up for."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from cloud.version import VERSION
from cloud.wire import WIRE_VERSION, encode
from tests.host.world import World, second, until
from vms.host import accelerator, converge, facts, inbox, monitor, reporting, store, trim
from vms.host.host import Host, UnusableHost
from vms.spec import Power, PowerGoal, SeenVm, VmSpec


def test_a_heartbeat_says_what_the_host_is_and_has(world: World) -> None:
    report = facts.host_report(world.host)
    assert (report.host, report.host_uuid) == ("h1", world.host.uuid)
    assert report.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (report.agent_version, report.network_mode) == (VERSION, "routed")
    assert (report.cores, report.uplink_ip) == (os.cpu_count(), "192.0.2.11")
    assert report.memory_mb > 0
    assert 0 < report.disk_free_gb <= report.disk_gb


def test_what_the_configuration_limits_is_told_as_limited(world: World) -> None:
    config = replace(world.host.config, cores=1, memory_mb=512)
    report = facts.host_report(replace(world.host, config=config))
    assert (report.cores, report.memory_mb) == (1, 512)


def test_an_emulated_guest_proves_that_it_ran(world: World) -> None:
    assert accelerator.probe(world.host, "tcg") == ""


def test_the_verdict_on_hardware_is_explained_and_holds_for_one_boot(world: World) -> None:
    verdict = accelerator.chosen(world.host)
    assert verdict.kind in ("kvm", "tcg")
    assert verdict.reason
    assert accelerator.chosen(world.host) == verdict
    other_boot = replace(world.host, boot_id="another")
    assert accelerator.chosen(other_boot).boot_id == "another"


def test_an_identity_is_made_once_and_kept(world: World) -> None:
    assert Host.open(world.host.config).uuid == world.host.uuid


def test_a_damaged_identity_is_refused_and_not_replaced(world: World) -> None:
    world.host.paths.identity.write_text("who?")
    with pytest.raises(UnusableHost, match="restore it"):
        Host.open(world.host.config)


@pytest.mark.parametrize("user", [None, "root", "no-such-user"])
def test_guests_never_run_as_root(world: World, user: str | None) -> None:
    with pytest.raises(UnusableHost, match="CUMULET_HOST_QEMU_USER"):
        Host.open(replace(world.host.config, qemu_user=user))


def test_hearts_beat_and_say_the_same_host(world: World) -> None:
    with world.watched():
        until(lambda: world.heartbeats, "a heartbeat")
    assert world.heartbeats[0].host_uuid == world.host.uuid


def test_a_report_that_was_not_sent_is_made_up_for(world: World) -> None:
    spec = world.spec()
    world.broker_away = True
    inbox.ensure(world.host, spec, world.send)
    world.broker_away = False
    assert not world.reports
    assert world.process(spec)
    with world.watched():
        until(lambda: world.reported(power=Power.RUNNING, converged=True), "control knows")
    assert not list(world.host.paths.unsent.iterdir())


def test_documents_that_come_all_at_once_end_in_the_newest(world: World) -> None:
    """Whoever finds the VM busy goes away, and what it brought is not lost."""
    goals = [PowerGoal.OFF, PowerGoal.RUNNING] * 4
    specs = [world.spec(generation=n, power=goal) for n, goal in enumerate(goals, start=1)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda spec: inbox.ensure(world.host, spec, world.send), specs))
    newest = max(world.reports, key=lambda report: report.seq)
    assert (newest.generation, newest.power) == (len(goals), Power.RUNNING)
    assert newest.converged
    assert world.process(specs[-1])


def test_what_nobody_rang_for_is_found_by_the_sweep(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "SWEEP_SECONDS", 0.2)
    spec = world.spec()
    with world.watched():
        store.accept(world.host, spec)
        until(lambda: world.reported(power=Power.RUNNING, converged=True), "the guest runs")


def test_what_is_as_it_was_is_told_in_one_report_for_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "SWEEP_SECONDS", 0.2)
    specs = [world.spec(power=PowerGoal.OFF), second(world.spec(power=PowerGoal.OFF))]
    with world.watched():
        for spec in specs:
            world.ensure(spec)
        until(lambda: _last_unchanged(world) == set(_as_told(world, specs)), "both are unchanged")
        whole, brief = len(world.reports), len(world.unchanged_reports)
        until(lambda: len(world.unchanged_reports) > brief + 2, "it is told again")
        assert len(world.reports) == whole
        world.ensure(structs.replace(specs[0], generation=2))
        until(lambda: _last_unchanged(world) == set(_as_told(world, specs)), "the newest counts")


def test_nothing_is_unchanged_of_which_no_report_arrived(world: World) -> None:
    spec = world.spec(power=PowerGoal.OFF)
    world.broker_away = True
    inbox.ensure(world.host, spec, world.send)
    assert converge.told(world.host, spec.vm_id) is None
    world.broker_away = False
    inbox.ensure(world.host, spec, world.send)
    assert converge.told(world.host, spec.vm_id) == _as_told(world, [spec])[0]


def _as_told(world: World, specs: list[VmSpec]) -> list[SeenVm]:
    """As the reports said that came last of each."""
    return [SeenVm(spec.vm_id, spec.uuid, world.told(spec).seq) for spec in specs]


def _last_unchanged(world: World) -> set[SeenVm]:
    return set(world.unchanged_reports[-1].vms) if world.unchanged_reports else set()


def test_a_monitor_that_ends_leaves_the_guests_alone(world: World) -> None:
    spec = world.spec()
    with world.watched():
        world.ensure(spec)
        until(lambda: world.reported(power=Power.RUNNING, converged=True), "the guest runs")
        before = world.process(spec)
    assert world.process(spec) == before
    assert not world.host.paths.bell.exists()


def test_a_chatty_guest_cannot_fill_the_host(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"x" * (trim.MAX_BYTES + 1) + b"end")
    trim.trim(log)
    assert log.stat().st_size == trim.KEPT_BYTES
    assert log.read_bytes().endswith(b"xend")


def test_a_log_that_leads_elsewhere_is_not_cut(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"x" * (trim.MAX_BYTES + 1))
    (tmp_path / "link").symlink_to(precious)
    (tmp_path / "other").hardlink_to(precious)
    trim.trim(tmp_path / "link")
    trim.trim(tmp_path / "other")
    assert precious.stat().st_size == trim.MAX_BYTES + 1


def test_a_document_of_another_release_is_a_problem_of_the_host_and_its_guest_runs_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(monitor, "SWEEP_SECONDS", 0.2)
    spec = world.spec()
    world.ensure(spec)
    before = world.process(spec)
    stored = world.host.paths.vm(spec.vm_id).spec
    readable = stored.read_bytes()
    stored.write_bytes(msgspec.json.encode({**encode(spec), "version": WIRE_VERSION + 1}))

    def told() -> bool:
        codes = {problem.code for problem in world.heartbeats[-1].problems}
        return "stored_version_unsupported" in codes

    with world.watched():
        try:
            until(lambda: world.heartbeats and told(), "control knows")
            assert world.process(spec) == before
        finally:
            stored.write_bytes(readable)
        until(lambda: not told(), "all is well again")
    assert world.process(spec) == before
