"""An instance is one state directory's own, and comes back as it was."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import msgspec
import pytest

from deploy import ports, state


@pytest.fixture(autouse=True)
def data_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "DATA_ROOT", tmp_path / "data")
    monkeypatch.setattr(state, "RUN_ROOT", Path("/run/of-nobody"))  # is never made


def test_two_state_directories_are_two_instances(tmp_path: Path) -> None:
    first = state.load_or_create(tmp_path / "a")
    second = state.load_or_create(tmp_path / "b")
    assert first.id != second.id
    assert first.data != second.data
    assert first.passwords != second.passwords


def test_an_instance_keeps_its_ports_and_passwords(tmp_path: Path) -> None:
    assert state.load_or_create(tmp_path / "a") == state.load_or_create(tmp_path / "a")


def test_a_port_that_a_stranger_took_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    instance = state.load_or_create(tmp_path / "a")
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", instance.ports.postgres))
        stranger.listen()
        moved = state.with_free_ports(instance)
    assert moved.ports.postgres != instance.ports.postgres
    assert moved.ports.broker == instance.ports.broker
    assert state.load(instance.state) == moved


def test_secrets_are_readable_by_root_alone(tmp_path: Path) -> None:
    instance = state.load_or_create(tmp_path / "a")
    assert stat.S_IMODE((instance.state / "state.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(instance.state.stat().st_mode) == 0o700


def test_a_run_directory_whose_sockets_nobody_could_open_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "RUN_ROOT", None)
    with pytest.raises(state.PathTooLong, match="CUMULET_STATE"):
        state.load_or_create(tmp_path / ("a" * 60))
    assert not (tmp_path / ("a" * 60)).exists()


def test_forwarded_ports_are_kept_and_apart_from_those_of_services(tmp_path: Path) -> None:
    instance = state.load_or_create(tmp_path / "a")
    lent = range(instance.forwards, instance.forwards + ports.FORWARDS)
    assert not set(lent) & set(msgspec.structs.astuple(instance.ports))
    with socket.socket() as guest:
        guest.bind(("127.0.0.1", instance.forwards))
        guest.listen()
        assert state.with_free_ports(instance).forwards == instance.forwards


def test_another_users_state_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    with pytest.raises(state.NotYours, match="54321"), state.locked(tmp_path / "a"):
        raise AssertionError("the other user got in")


def test_data_without_their_passwords_are_not_taken_for_a_new_cloud(tmp_path: Path) -> None:
    instance = state.load_or_create(tmp_path / "a")
    instance.data.mkdir(parents=True)
    (instance.state / "state.json").unlink()
    with pytest.raises(state.StateLost, match="--purge"):
        state.load_or_create(tmp_path / "a")


def test_two_commands_on_one_cloud_do_not_run_at_once(tmp_path: Path) -> None:
    with state.locked(tmp_path), pytest.raises(state.Busy), state.locked(tmp_path):
        raise AssertionError("the second command got in")


def test_generated_passwords_are_long() -> None:
    passwords = state.Passwords()
    assert all(len(getattr(passwords, name)) >= 32 for name in passwords.__struct_fields__)
