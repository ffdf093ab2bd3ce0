"""A host's reports are typed and bounded: what no column can hold is refused as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from cloud.wire import Failure, MalformedDocument, decode, encode
from vms.spec import HostReport, Power, VmReport

pytestmark = pytest.mark.faults

UUID = "00000000-0000-4000-8000-000000000001"
HOST = HostReport(
    host="h1",
    host_uuid=UUID,
    boot_id="b",
    agent_version="1",
    network_mode="routed",
    cores=4,
    memory_mb=8000,
    disk_gb=100,
    disk_free_gb=90,
    accelerator="tcg",
    accelerator_reason="",
)
VM = VmReport(
    vm_id=1,
    uuid=UUID,
    host_uuid=UUID,
    generation=1,
    seq=1,
    present=True,
    power=Power.RUNNING,
    converged=True,
    boot_id="b",
    at=1.0,
)
STEP = {"name": "disk", "started": 1.0, "seconds": 1.0}
LONG = "x" * 2**20

OF_HOSTS: dict[str, dict[str, Any]] = {
    "memory beyond bigint": {"memory_mb": 2**80},
    "memory beyond integer": {"memory_mb": 2**31},
    "less than no cores": {"cores": -1},
    "half a core": {"cores": 0.5},
    "a name that is a path": {"host": "../h1"},
    "a boot id of a megabyte": {"boot_id": LONG},
    "a mode of a megabyte": {"network_mode": LONG},
    "a version of a megabyte": {"agent_version": LONG},
    "an address that is none": {"uplink_ip": "::::::"},
    "a range that is none": {"public_ranges": ["1.2.3.4/999"]},
    "an endpoint without a port": {"tunnel_endpoint": "192.0.2.1:0"},
    "an endpoint that is no address": {"cable_endpoint": "1.2.3.4.5:80"},
    "a port beyond all ports": {"forward_ports": [1, 65536]},
    "more problems than anybody has": {"problems": [{"code": "c", "message": "m"}] * 21},
}
OF_VMS: dict[str, dict[str, Any]] = {
    "a generation beyond bigint": {"generation": 2**63},
    "no generation": {"generation": 0},
    "a power that is none": {"power": "on"},
    "a moment before all time": {"accepted_at": -1e300},
    "a moment after all time": {"at": 1e300},
    "no moment": {"at": float("nan")},
    "a code of a megabyte": {"failure": {"code": LONG, "message": "m", "retryable": False}},
    "a code that is a script": {"failure": {"code": "<b>", "message": "m", "retryable": False}},
    "a step that took for ever": {"steps": [{**STEP, "seconds": float("inf")}]},
    "a step before all time": {"steps": [{**STEP, "started": -1.0}]},
    "attempts beyond integer": {"steps": [{**STEP, "attempts": 2**62}]},
    "frames beyond bigint": {"nics": [{"index": 0, "dropped": {"mac": 2**63}}]},
    "reasons without end": {"nics": [{"index": 0, "dropped": {str(n): 1 for n in range(99)}}]},
    "a learned address that is none": {"nics": [{"index": 0, "learned": ["::::"]}]},
}


@pytest.mark.parametrize("wrong", OF_HOSTS.values(), ids=OF_HOSTS)
def test_a_heartbeat_out_of_bounds_is_refused(wrong: dict[str, Any]) -> None:
    assert decode(encode(HOST), HostReport) == HOST
    with pytest.raises(MalformedDocument):
        decode({**encode(HOST), **wrong}, HostReport)


@pytest.mark.parametrize("wrong", OF_VMS.values(), ids=OF_VMS)
def test_an_observation_out_of_bounds_is_refused(wrong: dict[str, Any]) -> None:
    assert decode(encode(VM), VmReport) == VM
    with pytest.raises(MalformedDocument):
        decode({**encode(VM), **wrong}, VmReport)


def test_a_failure_is_heard_whatever_a_tool_printed_into_it() -> None:
    failure = Failure("qemu_failed", "a\0b\udcff" + "c" * 10_000 + "the end", True)
    assert failure.message.startswith("a\ufffdb?ccc")
    assert failure.message.endswith("the end")
    assert len(failure.message) == 4000
    report = {**encode(VM), "failure": encode(failure)}
    assert decode(report, VmReport).failure == failure
