"""Where root's clouds lie and where an ordinary user's, and what the user is told of the lack."""

from __future__ import annotations

import os
from pathlib import Path

from deploy.places import Places
from deploy.shortcomings import Facts, lines

HOME = Path("/home/ada")
UID = os.getuid() or 1000


def test_root_has_directories_of_the_system_and_service_users() -> None:
    places = Places.of(0, HOME, {"XDG_DATA_HOME": "/elsewhere"})
    assert (places.data, places.run) == (Path("/var/lib/cumulet"), Path("/run/cumulet"))
    assert places.account("cumulet") == "cumulet"
    assert places.shared_cache is None


def test_a_user_has_everything_at_home_and_is_every_service() -> None:
    places = Places.of(UID, HOME, {"XDG_RUNTIME_DIR": "/nowhere"})
    assert places.data == HOME / ".local/share/cumulet"
    assert places.cache == HOME / ".cache/cumulet"
    assert places.account("cumulet") is None


def test_the_directories_that_the_environment_names_count(tmp_path: Path) -> None:
    env = {"XDG_DATA_HOME": "/data", "XDG_CACHE_HOME": "/cache", "XDG_RUNTIME_DIR": str(tmp_path)}
    places = Places.of(os.getuid() or 1000, HOME, env)
    assert (places.data, places.cache) == (Path("/data/cumulet"), Path("/cache/cumulet"))


def test_a_run_directory_of_another_user_is_not_used(tmp_path: Path) -> None:
    assert Places.of(54321, HOME, {"XDG_RUNTIME_DIR": str(tmp_path)}).run is None


def test_every_shortcoming_is_one_line() -> None:
    for kvm in (True, False, None):
        for bound in (True, False):
            assert not [line for line in lines(Facts("ada", kvm, bound)) if "\n" in line]


def test_a_closed_kvm_comes_with_the_command_that_opens_it() -> None:
    assert any("usermod --append --groups kvm ada" in s for s in lines(Facts("ada", False, False)))
    assert not any("KVM" in line for line in lines(Facts("ada", True, False)))


def test_who_stays_up_after_logout_is_not_told_how() -> None:
    assert any("enable-linger ada" in line for line in lines(Facts("ada", True, True)))
    assert not any("linger" in line for line in lines(Facts("ada", True, False)))
