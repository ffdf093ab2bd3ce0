"""What the monitor still does about networks that are gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from cloud.hostconfig import HostConfig
from networks.spec import NetworkRemoval, NetworkReport
from tests.documents import HOST_UUID
from tests.unit.test_private_plan import NETWORK
from vms.host import inbox, netstore, networks
from vms.host.host import Host
from vms.host.keeping import Networks
from vms.host.paths import HostPaths

GONE = NetworkRemoval(NETWORK.network_id, HOST_UUID, generation=9)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    paths = HostPaths(tmp_path / "state", tmp_path / "run")
    for directory in (paths.networks, paths.network_fences, paths.locks, paths.vms):
        directory.mkdir(parents=True)
    monkeypatch.setattr(networks, "_ensure", lambda *_: None)
    monkeypatch.setattr(networks, "_remove", lambda *_: None)
    config = HostConfig("h1", "amqp://", paths.state, paths.run)
    return Host(config, paths, HOST_UUID, "boot-1", owner=None)


class Broker:
    """Takes reports, or none while it is `away`."""

    def __init__(self) -> None:
        self.away = False
        self.told: list[NetworkReport] = []

    def __call__(self, report: NetworkReport) -> bool:
        if not self.away:
            self.told.append(report)
        return not self.away


async def nobody(_: int) -> None:
    """Looks at no VM."""


def no_vm(_: Any) -> bool:
    return True


def test_one_that_control_knows_to_be_gone_is_not_converged_again(host: Host) -> None:
    broker = Broker()
    inbox.network(host, structs.replace(NETWORK, host_uuid=HOST_UUID), broker, no_vm)
    inbox.network(host, GONE, broker, no_vm)
    assert [report.present for report in broker.told] == [True, False]
    assert netstore.network_ids(host.paths) == []


def test_one_of_which_control_was_not_told_is_kept_until_it_is(host: Host) -> None:
    broker = Broker()
    broker.away = True
    inbox.network(host, GONE, broker, no_vm)
    kept = Networks(host, broker, nobody)
    asyncio.run(kept.look_at_all(insist=False))
    assert netstore.network_ids(host.paths) == [NETWORK.network_id]
    broker.away = False
    asyncio.run(kept.look_at_all(insist=False))
    assert [report.present for report in broker.told] == [False]
    assert netstore.network_ids(host.paths) == []


def test_one_that_went_while_it_was_due_is_not_tried_for_ever(host: Host) -> None:
    kept = Networks(host, Broker(), nobody)
    kept.poke(NETWORK.network_id)
    asyncio.run(kept._see_to(NETWORK.network_id, insist=False))
    assert not kept._due
