"""Which of the installed PostgreSQL servers a cloud runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import postgres, state
from deploy.ports import Ports
from deploy.state import Instance


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    """Its cluster was made by PostgreSQL 15."""
    monkeypatch.setattr(state, "DATA_ROOT", tmp_path / "data")
    made = Instance("abc123", tmp_path, Ports(*range(8)), state.Passwords())
    cluster = made.data / "postgres" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("15\n")
    return made


def install(place: Path, monkeypatch: pytest.MonkeyPatch, *versions: str) -> Path:
    for version in versions:
        directory = place / version / "bin"
        directory.mkdir(parents=True)
        for name in ("initdb", "postgres"):
            (directory / name).touch()
    monkeypatch.setattr(postgres, "_PROGRAMS", place)
    return place


def test_a_newer_server_beside_it_does_not_take_an_old_clusters_place(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = install(tmp_path / "lib", monkeypatch, "15", "17")
    assert postgres.program(instance).argv[0] == place / "15" / "bin" / "postgres"


def test_a_cluster_without_its_server_says_which_package_has_it(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "lib", monkeypatch, "17")
    with pytest.raises(postgres.PostgresMissing, match=r"install the package postgresql-15$"):
        postgres.program(instance)
