"""The host's store: what order documents come in does not matter, the newest wins for ever."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from cloud import files
from cloud.hostconfig import HostConfig
from cloud.wire import WIRE_VERSION, encode
from tests.documents import HOST_UUID, SPEC, a_removal, a_spec
from vms.host import bell, documents, inbox, removal, store
from vms.host.converge import converge
from vms.host.host import Host
from vms.host.memory import VmMemory
from vms.host.paths import HostPaths
from vms.host.plan import Guest, Step, restart_wanted
from vms.host.steps import Steps
from vms.spec import VmReport

OTHER_UUID = "22222222-2222-3333-4444-555555555555"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    paths = HostPaths(tmp_path / "state", tmp_path / "run")
    for directory in (paths.vms, paths.tombstones, paths.locks, paths.unsent):
        directory.mkdir(parents=True)
    config = HostConfig("h1", "amqp://", paths.state, paths.run)
    return Host(config, paths, HOST_UUID, "boot-1", owner=None)


def test_what_was_accepted_is_read_back(host: Host) -> None:
    store.accept(host, SPEC)
    assert store.wanted(host.paths.vm(7)) == SPEC
    assert store.vm_ids(host) == [7]


def test_a_newer_generation_replaces_an_older_one(host: Host) -> None:
    store.accept(host, SPEC)
    store.accept(host, a_spec(generation=4, memory_mb=2048))
    assert store.spec(host.paths.vm(7)) == a_spec(generation=4, memory_mb=2048)


def test_an_older_generation_is_refused(host: Host) -> None:
    store.accept(host, SPEC)
    with pytest.raises(documents.OldGeneration):
        store.accept(host, a_spec(generation=2))
    assert store.wanted(host.paths.vm(7)) == SPEC


def test_the_same_generation_again_changes_nothing(host: Host) -> None:
    store.accept(host, SPEC)
    store.accept(host, a_spec(memory_mb=4096))
    assert store.wanted(host.paths.vm(7)) == SPEC


def test_a_removal_takes_the_place_of_the_specification(host: Host) -> None:
    store.accept(host, SPEC)
    store.accept_removal(host, a_removal())
    assert store.wanted(host.paths.vm(7)) == a_removal()
    assert store.spec(host.paths.vm(7)) == SPEC


@pytest.mark.parametrize("generation", [3, 4, 1000])
def test_a_removed_vm_never_comes_back(host: Host, generation: int) -> None:
    store.accept_removal(host, a_removal())
    store.forget(host.paths.vm(7))
    with pytest.raises(store.Removed):
        store.accept(host, a_spec(generation=generation))
    assert store.vm_ids(host) == []


def test_a_removal_may_be_the_first_that_is_heard_of_a_vm_and_come_twice(host: Host) -> None:
    store.accept_removal(host, a_removal())
    store.forget(host.paths.vm(7))
    store.accept_removal(host, a_removal())
    assert store.wanted(host.paths.vm(7)) == a_removal()


def test_an_old_removal_is_refused(host: Host) -> None:
    store.accept(host, SPEC)
    with pytest.raises(documents.OldGeneration):
        store.accept_removal(host, a_removal(generation=2))
    assert store.wanted(host.paths.vm(7)) == SPEC


def test_another_vm_under_the_same_id_is_refused(host: Host) -> None:
    store.accept(host, SPEC)
    with pytest.raises(store.ForeignVm, match="two clouds"):
        store.accept(host, a_spec(uuid=OTHER_UUID, generation=9))
    assert store.wanted(host.paths.vm(7)) == SPEC


def test_the_removal_of_another_vm_leaves_this_one_and_is_remembered(host: Host) -> None:
    store.accept(host, SPEC)
    with pytest.raises(store.ForeignVm):
        store.accept_removal(host, a_removal(uuid=OTHER_UUID))
    assert store.wanted(host.paths.vm(7)) == SPEC
    assert host.paths.tombstone(OTHER_UUID).exists()


def test_an_id_that_is_free_again_may_be_given_to_another_vm(host: Host) -> None:
    store.accept(host, SPEC)
    store.accept_removal(host, a_removal())
    store.forget(host.paths.vm(7))
    store.accept(host, a_spec(uuid=OTHER_UUID, generation=1))
    with pytest.raises(store.Removed):
        store.accept(host, a_spec(generation=50))


def test_a_document_for_another_machine_is_refused(host: Host) -> None:
    with pytest.raises(documents.WrongHost, match="installed anew"):
        store.accept(host, a_spec(host_uuid=OTHER_UUID))
    with pytest.raises(documents.WrongHost):
        store.accept_removal(host, a_removal(host_uuid=OTHER_UUID))
    assert store.vm_ids(host) == []


def test_a_damaged_document_is_reported_and_can_still_be_removed(host: Host) -> None:
    store.accept(host, SPEC)
    host.paths.vm(7).spec.write_text('{"vm_id": 7')
    with pytest.raises(documents.DamagedStore, match=r"spec\.json"):
        store.wanted(host.paths.vm(7))
    store.accept_removal(host, a_removal())
    assert store.wanted(host.paths.vm(7)) == a_removal()


def test_what_is_remembered_of_a_vm_survives(host: Host) -> None:
    store.accept(host, SPEC)
    memory = VmMemory(seq=9, halted=3, crashes=2)
    store.remember(host.paths.vm(7), memory)
    assert store.memory(host.paths.vm(7)) == memory


def test_documents_with_secrets_are_for_root_alone(host: Host) -> None:
    store.accept(host, SPEC)
    assert host.paths.vm(7).spec.stat().st_mode & 0o777 == 0o600


def test_what_a_crash_left_of_a_removed_vm_goes_and_what_has_a_document_stays(host: Host) -> None:
    paths = host.paths.vm(7)
    store.accept(host, SPEC)
    assert not store.clear_away(paths)
    store.remember(paths, VmMemory(seq=5))
    paths.spec.unlink()
    assert store.clear_away(paths)
    assert not paths.state.exists()


def test_a_lock_or_a_mark_without_a_vm_is_seen(host: Host) -> None:
    store.accept(host, SPEC)
    for vm_id in (7, 8):
        host.paths.vm(vm_id).lock.touch()
    host.paths.vm(9).kick.touch()
    (host.paths.locks / "10.network").touch()
    assert store.half_forgotten_ids(host) == [8, 9]


def test_a_removal_that_comes_again_while_files_go_is_stored_all_the_same(host: Host) -> None:
    """The sweep sends it once more while the first one is at work."""
    store.accept(host, SPEC)
    store.accept_removal(host, a_removal())
    paths = host.paths.vm(7)
    half = files.draft(paths.removal)
    half.write_bytes(b"half")
    (_, remove_files) = next(s for s in removal.steps(host, a_removal(), paths) if s[0] == "disk")
    remove_files()
    assert sorted(paths.state.iterdir()) == [half, paths.removal]


class TestACrash:
    """Leaves nothing of a server that nobody would ever take away again."""

    @pytest.fixture(autouse=True)
    def without_a_monitor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bell, "ring", lambda *_: None)

    def test_while_the_last_traces_go_leaves_what_says_that_they_must(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.accept_removal(host, a_removal())
        paths = host.paths.vm(7)
        store.remember(paths, VmMemory(seq=9))
        crash(monkeypatch, Path, "unlink", after=1)
        with pytest.raises(Crash):
            store.forget(paths)
        monkeypatch.undo()
        assert store.wanted(paths) == a_removal()
        store.forget(paths)
        assert not paths.state.exists()

    @pytest.mark.parametrize("left", [[], ["state.json"], [".spec.json.new", ".state.json.new"]])
    def test_of_which_no_document_is_left_is_cleared_away(
        self, host: Host, left: list[str]
    ) -> None:
        paths = host.paths.vm(7)
        paths.state.mkdir()
        for name in left:
            (paths.state / name).touch()
        converge(host, 7, lambda _: True)
        assert not paths.state.exists()
        assert list(host.paths.locks.iterdir()) == []

    @pytest.mark.parametrize("data", ["disk-0.qcow2", "seed.iso", "notes"])
    def test_never_costs_data(self, host: Host, data: str) -> None:
        paths = host.paths.vm(7)
        paths.state.mkdir()
        (paths.state / data).touch()
        paths.memory.write_text("{}")
        converge(host, 7, lambda _: True)
        assert sorted(path.name for path in paths.state.iterdir()) == sorted([data, "state.json"])


def test_a_disk_that_was_made_once_is_lost_even_if_nobody_remembers(host: Host) -> None:
    store.accept(host, SPEC)
    paths = host.paths.vm(7)
    paths.seed.touch()  # it is made after the disks
    failure = Steps(host, SPEC, VmMemory()).take(Step.PROVISION)
    assert failure is not None
    assert failure.code == "disk_lost"
    assert not paths.disk(0).exists()


def test_that_there_was_no_room_for_a_document_is_heard_though_the_clock_was_set_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.accept(host, SPEC)
    tomorrow = int((time.time() + 86400) * 1000)
    store.remember(host.paths.vm(7), VmMemory(seq=tomorrow))
    monkeypatch.setattr(store, "accept", full)
    monkeypatch.setattr(inbox, "guest", lambda *_: Guest.ABSENT)
    sent: list[VmReport] = []

    def send(report: VmReport) -> bool:
        sent.append(report)
        return True

    inbox.ensure(host, a_spec(generation=4), send)
    (report,) = sent
    assert report.failure is not None
    assert (report.failure.code, report.seq) == ("host_disk_full", tomorrow + 1)


class Crash(BaseException):
    """The process is killed."""


def crash(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, *, after: int) -> None:
    """Let a method of `kind` be the last thing that is done, after so many calls."""
    really, calls = getattr(kind, name), 0

    def once_more(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        if calls == after:
            raise Crash
        calls += 1
        return really(*arguments, **named)

    monkeypatch.setattr(kind, name, once_more)


class TestAnotherRelease:
    """Wrote to the same disk: after an upgrade, or before somebody went back."""

    def put(self, path: Path, document: Struct, **changes: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode({**encode(document), **changes}))

    def test_its_documents_say_their_version_and_are_refused_by_it(self, host: Host) -> None:
        store.accept(host, SPEC)
        self.put(host.paths.vm(7).spec, SPEC, version=WIRE_VERSION + 1)
        with pytest.raises(documents.StoredVersionUnsupported, match="of wire version 2"):
            store.wanted(host.paths.vm(7))

    def test_a_document_that_is_not_understood_is_not_replaced_either(self, host: Host) -> None:
        """Whether the new one is older nobody can tell."""
        self.put(host.paths.vm(7).spec, SPEC, version=WIRE_VERSION + 1)
        before = host.paths.vm(7).spec.read_bytes()
        with pytest.raises(documents.StoredVersionUnsupported):
            store.accept(host, a_spec(generation=9))
        assert host.paths.vm(7).spec.read_bytes() == before

    def test_a_server_whose_document_is_not_understood_can_be_deleted(self, host: Host) -> None:
        self.put(host.paths.vm(7).spec, SPEC, version=WIRE_VERSION + 1)
        store.accept_removal(host, a_removal())
        assert store.wanted(host.paths.vm(7)) == a_removal()

    def test_what_it_remembered_of_a_server_is_kept_but_what_it_told(self, host: Host) -> None:
        paths = host.paths.vm(7)
        known = VmMemory(seq=5, reset_serial=3, halted=2, started_at=9.0)
        self.put(paths.memory, known, version=WIRE_VERSION + 1, told={"form": "new"}, more=1)
        assert store.memory(paths, SPEC) == known

    def test_a_memory_of_before_versions_were_noted_is_read(self, host: Host) -> None:
        paths = host.paths.vm(7)
        paths.state.mkdir()
        paths.memory.write_text('{"seq": 5, "reset_serial": 3, "told": null}')
        assert store.memory(paths, SPEC) == VmMemory(seq=5, reset_serial=3)

    @pytest.mark.parametrize(
        "content", ["", "[]", "3", '{"seq": "x"}', '{"version": 2, "seq": {}}']
    )
    def test_a_lost_memory_neither_resets_nor_reboots_the_guest(
        self, host: Host, content: str
    ) -> None:
        paths, spec = host.paths.vm(7), a_spec(reset_serial=4, reboot_serial=2)
        paths.state.mkdir()
        paths.memory.write_text(content)
        assert not restart_wanted(spec, store.memory(paths, spec))
