"""What deploy's commands change of a machine's package management is as before when they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud import shell
from deploy.state import CHECKOUT

# The real functions on files of the test's own, with a package manager that does `$during`.
SCRIPT = """
. "$1/deploy/bootstrap.sh"
root=yes cache=$2
policy=$2/policy-rc.d cluster_config=$2/createcluster.conf
missing_packages() { [ -e "$2/installed" ] || echo postgresql; }
systemctl() { :; }
dpkg() { echo "dpkg $*" >>"$2/said"; }
apt-get() {
    case $* in
        *" -y postgresql") eval "$during" ;;
    esac
}
"""
KILLED = "kill -KILL $BASHPID"
DEFAULT = "#create_main_cluster = true\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "createcluster.conf").write_text(DEFAULT)
    return tmp_path


def install(place: Path, during: str) -> int:
    """The exit code of a run; `during`: what happens while apt-get installs the last package."""
    script = f"{SCRIPT}install_packages postgresql".replace("$2", str(place))
    command = ["bash", "-c", script, CHECKOUT / "deploy" / "up", CHECKOUT]
    return shell.run(command, timeout=30, env={"during": during}, ok=range(256)).code


def files(place: Path) -> dict[str, str]:
    names = {path.name for path in place.iterdir()} - {"packages.lock", "seen", "said"}
    return {name: (place / name).read_text() for name in names}


def test_services_and_clusters_are_forbidden_just_while_packages_are_installed(place: Path) -> None:
    seen = f"{{ sh {place}/policy-rc.d || echo $?; cat {place}/createcluster.conf; }} >{place}/seen"
    assert install(place, seen) == 0
    assert (place / "seen").read_text() == "101\ncreate_main_cluster = false\n"
    assert files(place) == {"createcluster.conf": DEFAULT}


@pytest.mark.parametrize("then", ["installs the rest", "finds all installed", "is killed, too"])
def test_what_a_killed_run_left_is_put_back_by_the_next_one(place: Path, then: str) -> None:
    assert install(place, KILLED) != 0
    assert files(place).keys() > {"policy-rc.d", "createcluster.conf"}
    match then:
        case "finds all installed":
            (place / "installed").touch()
        case "is killed, too":
            install(place, KILLED)
    assert install(place, ":") == 0
    (place / "installed").unlink(missing_ok=True)
    assert files(place) == {"createcluster.conf": DEFAULT}
    assert "dpkg --configure -a" in (place / "said").read_text()


def test_a_machines_own_policy_stays(place: Path) -> None:
    own = "#!/bin/sh\nexit 101\n"
    (place / "policy-rc.d").write_text(own)
    assert install(place, KILLED) != 0
    assert install(place, ":") == 0
    assert files(place) == {"createcluster.conf": DEFAULT, "policy-rc.d": own}
