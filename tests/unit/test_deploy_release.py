"""Which copy of the code a cloud runs from."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import release, state
from deploy.ports import Ports
from deploy.state import Instance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "checkout"
    for name in ("manage.py", "cloud/a.py", "networks/b.py", "vms/c.py", "deploy/commands.py"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text("A = 1\n")
    monkeypatch.setattr(release, "CHECKOUT", made)
    return made


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setattr(state, "DATA_ROOT", tmp_path / "data")
    made = Instance("abc123", tmp_path, Ports(*range(8)), state.Passwords())
    made.data.mkdir(parents=True)
    return made


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """What was in the copy each time that it was written to the disk."""
    seen: list[set[str]] = []

    def run(argv: list[str | Path], *, timeout: float) -> None:
        *command, place = argv
        assert command == ["sync", "--file-system"]
        seen.append({str(path.relative_to(place)) for path in Path(place).rglob("*.py")})

    monkeypatch.setattr(release.shell, "run", run)
    return seen


def edit(checkout: Path) -> None:
    (checkout / "vms/c.py").write_text("A = 2\n")


def test_a_host_comes_back_with_what_the_cloud_was_up_with_and_not_with_what_failed(
    checkout: Path, instance: Instance
) -> None:
    good = release.ensure(instance)
    release.settle(good)
    edit(checkout)
    release.ensure(instance)
    assert release.current(instance) == good


def test_a_cloud_that_is_up_keeps_just_the_release_that_it_runs_from(
    checkout: Path, instance: Instance
) -> None:
    release.settle(release.ensure(instance))
    edit(checkout)
    newer = release.ensure(instance)
    assert not release.is_only(newer)
    release.settle(newer)
    assert release.current(instance) == newer
    assert release.is_only(newer)


def test_a_cloud_that_was_never_up_says_what_to_do(checkout: Path, instance: Instance) -> None:
    release.ensure(instance)
    with pytest.raises(release.NeverUp, match="run deploy/up"):
        release.current(instance)


def test_a_copy_is_whole_on_the_disk_before_it_has_its_name(
    checkout: Path, instance: Instance, synced: list[set[str]]
) -> None:
    made = release.ensure(instance)
    files = {"manage.py", "cloud/a.py", "networks/b.py", "vms/c.py", "deploy/commands.py"}
    assert synced == [files]
    assert release.ensure(instance) == made
    assert len(synced) == 1
