"""The check that ends every fault can fail: what is planted is found."""

from __future__ import annotations

from contextlib import closing

import psycopg2

from cloud import shell
from deploy import postgres
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
    cloud, host = trial.world.cloud, trial.host("h1")
    enter, tap = cloud.lab.enter(host.namespace.name), tap_name(_STRAY, 0)
    trial.check_for_leaks()
    directory, unsent = host.state / "vms" / str(_STRAY), host.run / "unsent" / str(_STRAY)
    try:
        directory.mkdir()
        unsent.touch()
        shell.run([*enter, "ip", "tuntap", "add", tap, "mode", "tap"], timeout=10)
        found = set(leaks.leaks(cloud))
        assert found >= {
            f"h1: files of {_STRAY} too many",
            f"h1: unsent report of {_STRAY}",
            f"h1: tap {tap} too many",
        }
    finally:
        directory.rmdir()
        unsent.touch()  # the host forgets what it has no documents of
        shell.run([*enter, "ip", "link", "del", tap], timeout=10, ok=(0, 1))
    trial.check_for_leaks()


def test_what_the_inventory_holds_for_nobody_is_found(trial: Trial) -> None:
    """An action without an end; the sweep ends it a moment later."""
    instance = trial.world.cloud.instance
    with closing(psycopg2.connect(postgres.url(instance))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(_OPEN_AGAIN)
            action = cursor.fetchone()[0]
        found = leaks.leaks(trial.world.cloud)
    assert any(line.startswith(f"still open: action {action}") for line in found)
    trial.check_for_leaks()
