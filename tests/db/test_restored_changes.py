"""What users change about servers that a restored inventory has otherwise than their hosts."""

from __future__ import annotations

from typing import Any

import pytest

from networks.models import IpType
from networks.public_ips import IpOrder
from tests import factories as make
from tests.db import mesh
from tests.db.restoring import held, restored, running, says, speak
from vms import dispatch
from vms.firewalls.actions import FirewallOrder, Target, create_firewall, set_rules
from vms.floating_ips import assign_floating_ip, create_floating_ip
from vms.private import replication
from vms.private.actions import RouteOrder, add_route
from vms.private.servers import attach_to_network

pytestmark = [pytest.mark.django_db, pytest.mark.faults]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | None]]:
    """What hosts are told: tasks, and numbers of servers."""
    told: list[tuple[str, int | None]] = []

    def hint(queue: str, task: str, document: dict[str, Any], *, summary: str) -> bool:
        told.append((task, document.get("vm_id")))
        return True

    for module in (dispatch, replication):
        monkeypatch.setattr(module, "hint", hint)
    return told


@pytest.mark.parametrize("change", ["firewall", "route", "floating IP"])
def test_a_server_that_differs_is_told_of_what_is_changed_about_it(
    change: str, sent: list[tuple[str, int | None]], django_capture_on_commit_callbacks: Any
) -> None:
    host = mesh.host(1)
    make.pool()
    vm, network = running("web-1"), mesh.network()
    attach_to_network(vm, network)
    firewall, _ = create_firewall(
        make.project(), FirewallOrder("web", apply_to=[Target(server=vm.pk)])
    )
    order = IpOrder(IpType.IPV4, make.location())
    floating, _ = create_floating_ip(make.project(), order, vm)
    restored()
    speak()
    says(host, held(vm, addresses=("203.0.113.9",)))
    vm.refresh_from_db()
    assert vm.held_back == "differs"
    speak()
    other = make.ordered("web-2").vm
    sent.clear()
    with django_capture_on_commit_callbacks(execute=True):
        match change:
            case "firewall":
                set_rules(firewall, [])
            case "route":
                add_route(network, RouteOrder("192.168.0.0/16", "10.0.0.2"))
            case _:
                assign_floating_ip(floating, other)
    assert ("vms.ensure", vm.pk) in sent
