"""Steps of a period are never more than the contract allows, and no nonsense is taken as usage."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.wire import MalformedDocument, decode, encode
from tests.documents import HOST_UUID
from vms.spec import MAX_VMS, Usage, UsageReport
from vms.usage import LEAST_STEP, MOST_VALUES, USUAL_VALUES, Period

START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "asked", "step"),
    [
        (1, None, LEAST_STEP),
        (1, 60, 60),
        (1, 90.5, 91),
        (1, 1, LEAST_STEP),
        (24, None, 432),
        (24, 60, 173),
        (24 * 30, 3600, 5184),
    ],
)
def test_a_step_is_widened_where_it_has_to_be(hours: int, asked: float | None, step: int) -> None:
    assert Period.of(START, START + timedelta(hours=hours), asked).step == step


@given(
    seconds=st.floats(min_value=0.001, max_value=1e8),
    asked=st.none() | st.floats(min_value=0.001, max_value=1e8),
)
def test_no_period_has_too_many_values(seconds: float, asked: float | None) -> None:
    end = START + timedelta(seconds=seconds)
    period = Period.of(START, end, asked)
    values = math.ceil((end - START).total_seconds() / period.step)
    assert values <= (MOST_VALUES if asked else USUAL_VALUES)
    assert period.step >= (asked or 0)


def a_report(**usage: Any) -> dict[str, Any]:
    sample = Usage(vm_id=1, seconds=60.0, cpu=1.0, memory_bytes=1)
    document = encode(UsageReport(host_uuid=HOST_UUID, at=1e9, usages=(sample,)))
    document["usages"][0].update(usage)
    return document


def test_a_report_is_read_as_it_was_written() -> None:
    assert decode(a_report(), UsageReport).usages[0].disk_iops_read is None


@pytest.mark.parametrize(
    "usage",
    [
        {"cpu": -1.0},
        {"cpu": math.nan},
        {"cpu": math.inf},
        {"network_pps_in": 1e300},
        {"seconds": 0},
        {"memory_bytes": -1},
        {"vm_id": 0},
    ],
)
def test_nonsense_is_refused(usage: dict[str, Any]) -> None:
    with pytest.raises(MalformedDocument):
        decode(a_report(**usage), UsageReport)


def test_the_number_of_servers_in_a_report_is_bounded() -> None:
    document = a_report()
    document["usages"] *= MAX_VMS + 1
    with pytest.raises(MalformedDocument):
        decode(document, UsageReport)
