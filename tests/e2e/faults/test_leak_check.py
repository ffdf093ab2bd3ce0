"""The check that ends every fault can fail: what is planted is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import psycopg2

from cloud import shell
from deploy import control, postgres
from deploy.hosts import LabHost
from tests.e2e.faults import leaks
from tests.e2e.faults.trial import Trial
from vms.host.paths import tap_name

_STRAY = 999_999
_OPEN_AGAIN = """
    UPDATE cloud_action
    SET status = 'running', finished = NULL, started = now() - interval '2 hours',
        deadline = now() - interval '1 hour'
    WHERE id = (SELECT max(id) FROM cloud_action) RETURNING id
"""


def test_what_nobody_ordered_is_found_on_a_host(trial: Trial) -> None:
    cloud = trial.world.cloud
    trial.check_for_leaks()
    with _planted(trial, trial.host("h1")) as tap:
        found = set(leaks.leaks(cloud))
    assert found >= {
        f"h1: files of {_STRAY} too many",
        f"h1: unsent report of {_STRAY}",
        f"h1: tap {tap} too many",
    }
    trial.check_for_leaks()


def test_what_the_inventory_holds_for_nobody_is_found(trial: Trial) -> None:
    """An action without an end; the sweep ends it a moment later."""
    cloud = trial.world.cloud
    cloud.supervisor.stop(control.BEAT)
    try:
        with closing(psycopg2.connect(postgres.url(cloud.instance))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(_OPEN_AGAIN)
                action = cursor.fetchone()[0]
        found = leaks.leaks(cloud)
    finally:
        cloud.supervisor.start(control.BEAT)
    assert any(line.startswith(f"still open: action {action}") for line in found)
    trial.check_for_leaks()


@contextmanager
def _planted(trial: Trial, host: LabHost) -> Iterator[str]:
    """The host's programs stand still meanwhile: they would clear up. Answers the tap's name."""
    cloud, tap = trial.world.cloud, tap_name(_STRAY, 0)
    enter = cloud.lab.enter(host.namespace.name)
    directory, unsent = host.state / "vms" / str(_STRAY), host.run / "unsent" / str(_STRAY)
    with ExitStack() as planted:
        planted.callback(cloud.supervisor.start, host.agent, host.monitor)
        cloud.supervisor.stop(host.agent, host.monitor)
        planted.callback(directory.rmdir)
        directory.mkdir()
        planted.callback(unsent.unlink)
        unsent.touch()
        planted.callback(shell.run, [*enter, "ip", "link", "del", tap], timeout=10)
        shell.run([*enter, "ip", "tuntap", "add", tap, "mode", "tap"], timeout=10)
        yield tap
