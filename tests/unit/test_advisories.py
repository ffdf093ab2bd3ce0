"""A check that nobody made is never said to have found nothing."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.advisories import Exit, verdict

GOOD: dict[str, Any] = {"name": "django", "version": "5.2.19", "vulns": []}
WEAK: dict[str, Any] = {
    "name": "kombu",
    "version": "5.7.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["5.7.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}
UNKNOWN: dict[str, Any] = {"name": "celery", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("packages", "ends", "says"),
    [
        ([GOOD], Exit.GOOD, "1 packages checked, 0 weaknesses known."),
        ([GOOD, WEAK], Exit.WEAK, "kombu 5.7.0: PYSEC-1, mended in 5.7.1"),
        ([WEAK, UNKNOWN], Exit.WEAK, "kombu 5.7.0: PYSEC-2, mended in none yet"),
        ([GOOD, UNKNOWN], Exit.UNKNOWN, "NOT checked, no source knows them: celery"),
        ([UNKNOWN], Exit.UNKNOWN, "NOTHING was checked"),
        ([], Exit.UNKNOWN, "NOTHING was checked"),
    ],
)
def test_the_command_says_what_was_checked_and_what_was_not(
    packages: list[dict[str, Any]], ends: Exit, says: str
) -> None:
    found = verdict({"dependencies": packages})
    assert found.exit is ends
    assert says in "\n".join(found.lines())
