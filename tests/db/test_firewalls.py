"""Firewalls and the servers they guard, on a real database: who is told, once, and in any race."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cloud.errors import InUse, InvalidInput, LimitExceeded, NotFound
from cloud.labels import meets, parse_selector
from cloud.models import Action
from cloud.wire import Failure
from networks.models import Firewall, FirewallSelector
from networks.spec import RuleSpec
from tests import factories as make
from vms import reports
from vms.actions import create_vm, delete_vm, update_vm
from vms.attachments import PublicNet
from vms.dispatch import spec_of
from vms.firewalls.actions import (
    FirewallOrder,
    ManagedByLabels,
    Target,
    apply_firewall,
    create_firewall,
    delete_firewall,
    remove_firewall,
    set_rules,
)
from vms.firewalls.effective import effective_firewall, firewall_states
from vms.firewalls.membership import PrivateOnly
from vms.models import VM, FirewallUse
from vms.spec import PowerGoal

pytestmark = pytest.mark.django_db

HTTP = {"direction": "in", "protocol": "tcp", "port": "80", "source_ips": ["0.0.0.0/0"]}
SSH = {**HTTP, "port": "22"}


@pytest.fixture(autouse=True)
def room(db: None) -> None:
    make.host(cores=100, memory_mb=2**20, disk_gb=1000)
    make.pool("203.0.113.0/24")


def firewall(name: str = "web", *apply_to: Target, rules: Sequence[object] = (HTTP,)) -> Firewall:
    made, _ = create_firewall(
        make.project(), FirewallOrder(name=name, rules=rules, apply_to=apply_to)
    )
    return made


def server(name: str = "web-1", **values: Any) -> VM:
    return create_vm(make.project(), make.order(name, **values)).vm


def on(vm: VM) -> Target:
    return Target(server=vm.pk)


def converge(*vms: VM) -> None:
    """The hosts report that all is as wanted."""
    for vm in vms:
        reports.vm_report(make.report(vm), "host-h1")


def ports_of(vm: VM) -> list[int] | None:
    """The first ports that the host is told to let in; None without a firewall."""
    (nic,) = spec_of(VM.objects.for_spec().get(pk=vm.pk)).nics
    if nic.firewall is None:
        return None
    return [rule.ports[0] for rule in nic.firewall.rules if rule.ports]


def status_of(vm: VM) -> list[bool]:
    return list(firewall_states(VM.objects.get(pk=vm.pk)).values())


def generation(vm: VM) -> int:
    return VM.objects.get(pk=vm.pk).generation


def test_a_server_without_a_firewall_lets_everything_pass() -> None:
    assert effective_firewall(server()) is None


def test_a_server_is_guarded_from_its_first_start() -> None:
    vm = server(firewalls=(firewall(),))
    assert (vm.generation, ports_of(vm)) == (1, [80])
    assert status_of(vm) == [False]
    converge(vm)
    assert status_of(vm) == [True]


def test_several_firewalls_add_up_in_the_order_in_which_they_came() -> None:
    web, ssh = firewall("web"), firewall("ssh", rules=[SSH])
    vm = server()
    apply_firewall(ssh, [on(vm)])
    apply_firewall(web, [on(vm)])
    assert ports_of(vm) == [22, 80]
    assert effective_firewall(VM.objects.for_spec().get(pk=vm.pk)) is not None


def test_a_new_servers_firewalls_keep_their_order_and_count_once() -> None:
    web, ssh = firewall("web"), firewall("ssh", rules=[SSH])
    assert ports_of(server(firewalls=(ssh, web, ssh))) == [22, 80]


def test_a_firewall_that_was_deleted_meanwhile_leaves_no_unguarded_server() -> None:
    web = firewall()
    stale = Firewall.objects.get(pk=web.pk)
    delete_firewall(web)
    with pytest.raises(InvalidInput, match="not found"):
        server(firewalls=(stale,))
    assert not VM.objects.exists()


def test_what_hosts_are_told_costs_as_many_queries_for_twelve_servers_as_for_three() -> None:
    web, ssh = firewall("web"), firewall("ssh", rules=[SSH])

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            specs = [spec_of(vm) for vm in VM.objects.for_spec()]
        assert all(spec.nics[0].firewall for spec in specs)
        return len(captured)

    for number in range(3):
        server(f"few-{number}", firewalls=(web, ssh))
    few = queries()
    for number in range(9):
        server(f"more-{number}", firewalls=(web, ssh))
    assert queries() == few


def test_a_server_that_cannot_be_made_uses_no_firewall() -> None:
    vm = server(firewalls=(firewall(),))
    failure = Failure("disk_full", "no room", retryable=False)
    reports.vm_report(make.report(vm, present=False, converged=False, failure=failure), "host-h1")
    vm.refresh_from_db()
    assert vm.deleting
    assert not FirewallUse.objects.exists()


def test_a_firewall_without_rules_lets_nothing_in() -> None:
    assert ports_of(server(firewalls=(firewall(rules=()),))) == []


def test_rules_reach_the_host_in_the_form_of_the_wire() -> None:
    out = {"direction": "out", "protocol": "icmp", "destination_ips": ["2001:DB8::/32"]}
    vm = server(firewalls=(firewall(rules=[out]),))
    spec = effective_firewall(vm)
    assert spec is not None
    assert spec.rules == (RuleSpec("out", "icmp", ("2001:db8::/32",)),)


def test_a_change_tells_each_of_thirty_servers_once() -> None:
    web = firewall()
    vms = [server(f"web-{number}") for number in range(30)]
    actions = apply_firewall(web, [on(vm) for vm in vms])
    assert [generation(vm) for vm in vms] == [2] * 30
    actions = set_rules(web, [SSH])
    assert [generation(vm) for vm in vms] == [3] * 30
    assert [action.command for action in actions] == ["set_firewall_rules"] + [
        "apply_firewall"
    ] * 30
    assert [action.status for action in actions] == ["success"] + ["running"] * 30
    converge(*vms)
    assert not Action.objects.open().filter(command="apply_firewall").exists()
    assert ports_of(vms[29]) == [22]


def test_a_server_keeps_its_power_goal_when_its_firewall_changes() -> None:
    vm = server(start=False)
    firewall("web", on(vm))
    vm.refresh_from_db()
    assert (vm.goal, vm.generation) == (PowerGoal.OFF, 2)


def test_a_changed_firewall_is_pending_until_the_host_applied_the_change() -> None:
    web, ssh = firewall("web"), firewall("ssh", rules=[SSH])
    vm = server(firewalls=(web, ssh))
    converge(vm)
    set_rules(ssh, [SSH, HTTP])
    assert status_of(vm) == [True, False]
    old = make.report(vm, generation=1)
    reports.vm_report(old, "host-h1")
    assert status_of(vm) == [True, False]
    reports.vm_report(make.report(vm, converged=False), "host-h1")
    assert status_of(vm) == [True, False]
    converge(vm)
    assert status_of(vm) == [True, True]


def test_another_wish_does_not_make_an_applied_firewall_pending() -> None:
    vm = server(firewalls=(firewall(),))
    converge(vm)
    firewall("ssh", on(vm))
    assert status_of(vm) == [True, False]


def test_labels_decide_at_once_who_is_guarded() -> None:
    web = firewall("web", Target(selector="env=prod"))
    vm, other = server(labels={"env": "prod"}), server("other", labels={"env": "test"})
    assert (ports_of(vm), ports_of(other)) == ([80], None)
    assert generation(vm) == 1
    update_vm(other, labels={"env": "prod", "tier": "web"})
    assert (ports_of(other), generation(other)) == ([80], 2)
    update_vm(other, labels={"env": "prod"})
    assert generation(other) == 2
    update_vm(vm, labels={})
    assert (ports_of(vm), generation(vm)) == (None, 2)
    about = Action.objects.of("firewall", web.pk).values_list("command", flat=True)
    assert list(about) == ["set_firewall_rules", "apply_firewall", "apply_firewall",
                           "remove_firewall"]  # fmt: skip


def test_one_change_of_labels_that_moves_several_firewalls_is_one_generation() -> None:
    firewall("prod", Target(selector="env=prod"))
    firewall("test", Target(selector="env=test"), rules=[SSH])
    vm = server(labels={"env": "test"})
    update_vm(vm, labels={"env": "prod"})
    assert (ports_of(vm), generation(vm)) == ([80], 2)


def test_a_server_that_meets_another_selector_of_its_firewall_is_not_told_again() -> None:
    firewall("web", Target(selector="env=prod"), Target(selector="env=test"))
    vm = server(labels={"env": "test"})
    update_vm(vm, labels={"env": "prod"})
    assert (ports_of(vm), generation(vm)) == ([80], 1)
    assert vm.firewall_uses.get().selector is not None


def test_a_change_of_labels_reads_as_much_among_thirty_servers_as_alone() -> None:
    firewall("web", Target(selector="env=prod"))

    def queries(vm: VM, labels: dict[str, str]) -> int:
        with CaptureQueriesContext(connection) as captured:
            update_vm(vm, labels=labels)
        return len(captured)

    vm = server()
    alone = queries(vm, {"env": "prod"})
    for number in range(30):
        server(f"more-{number}", labels={"env": "prod"})
    update_vm(vm, labels={})
    assert queries(vm, {"env": "prod"}) == alone


@pytest.mark.parametrize("terms", list(itertools.combinations(
    ["env", "!env", "env=prod", "env=", "env!=prod", "env in (prod,test)", "env notin (prod,test)",
     "!tier", "tier"], 2)), ids=",".join)  # fmt: skip
def test_one_server_and_all_servers_are_matched_alike(terms: tuple[str, ...]) -> None:
    texts = [{}, {"env": ""}, {"env": "prod"}, {"env": "test", "tier": "web"}, {"tier": "prod"}]
    selector = ",".join(terms)
    rows = [
        Firewall.objects.create(project=make.project(), name=str(number), labels=labels)
        for number, labels in enumerate(texts)
    ]
    in_sql = set(Firewall.objects.matching(selector))
    assert in_sql == {row for row in rows if meets(row.labels, parse_selector(selector))}


def test_a_server_that_has_a_firewall_by_label_too_keeps_it() -> None:
    vm = server(labels={"env": "prod"})
    web = firewall("web", on(vm), Target(selector="env"))
    assert generation(vm) == 2
    remove_firewall(web, [on(vm)])
    assert ports_of(vm) == [80]
    with pytest.raises(ManagedByLabels, match="by its labels"):
        remove_firewall(web, [on(vm)])
    remove_firewall(web, [Target(selector="env")])
    assert ports_of(vm) is None
    assert not FirewallSelector.objects.exists()


def test_removing_what_is_not_there_changes_nothing() -> None:
    vm = server()
    (action,) = remove_firewall(firewall(), [on(vm), Target(selector="env")])
    assert (action.command, action.status, generation(vm)) == ("remove_firewall", "success", 1)


def test_no_server_has_more_than_five_firewalls() -> None:
    vm = server(firewalls=tuple(firewall(f"fw-{number}") for number in range(5)))
    sixth = firewall("sixth")
    with pytest.raises(LimitExceeded, match="more than 5 firewalls"):
        apply_firewall(sixth, [on(vm)])
    firewall("labelled", Target(selector="env"))
    with pytest.raises(LimitExceeded):
        update_vm(vm, labels={"env": "prod"})
    vm.refresh_from_db()
    assert (vm.generation, vm.labels, FirewallUse.objects.count()) == (1, {}, 5)


def test_a_server_without_a_public_interface_has_nothing_to_guard() -> None:
    vm = server(start=False, public_net=PublicNet(ipv4=False, ipv6=False))
    web = firewall()
    with pytest.raises(PrivateOnly):
        apply_firewall(web, [on(vm)])
    with pytest.raises(PrivateOnly):
        server("dark", start=False, public_net=PublicNet(ipv4=False, ipv6=False), firewalls=(web,))


def test_a_firewall_in_use_is_kept_and_a_deleted_server_uses_none() -> None:
    vm = server()
    web = firewall("web", on(vm))
    with pytest.raises(InUse, match="is still in use"):
        delete_firewall(web)
    delete_vm(vm)
    delete_firewall(web)
    assert not Firewall.objects.exists()


def test_a_selector_keeps_its_firewall_even_if_nobody_meets_it() -> None:
    web = firewall("web", Target(selector="env"))
    with pytest.raises(InUse):
        delete_firewall(web)


def test_a_refused_change_changes_nothing() -> None:
    vm = server()
    web = firewall("web", on(vm))
    with pytest.raises(InvalidInput):
        set_rules(web, [HTTP, {**HTTP, "port": "0"}])
    with pytest.raises(InvalidInput):
        apply_firewall(web, [Target(selector="env"), Target(selector="=")])
    web.refresh_from_db()
    assert (generation(vm), len(web.rules), web.selectors.count()) == (2, 1, 0)


@pytest.mark.django_db(transaction=True)
class TestAtTheSameMoment:
    """Whoever comes first, everybody who should be guarded is, by the latest rules."""

    def test_rules_and_new_servers(self, parallel: Callable[..., list[Any]]) -> None:
        web = firewall()
        make.order()

        def work(number: int) -> None:
            if number % 2:
                set_rules(web, [{**HTTP, "port": str(1000 + number)}])
            else:
                server(f"web-{number}", firewalls=(web,))

        assert parallel(work, 8) == [None] * 8
        web.refresh_from_db()
        last = int(web.rules[0]["port"])
        for vm in VM.objects.all():
            assert ports_of(vm) == [last]
            # The newest generation of each carries the newest rules: no host is left behind.
            (use,) = vm.firewall_uses.all()
            assert use.generation == vm.generation

    def test_selectors_labels_and_new_servers(self, parallel: Callable[..., list[Any]]) -> None:
        web = firewall()
        old = [server(f"old-{number}") for number in range(3)]

        def work(number: int) -> None:
            if number == 0:
                apply_firewall(web, [Target(selector="env=prod")])
            elif number < 4:
                update_vm(old[number - 1], labels={"env": "prod"})
            else:
                server(f"new-{number}", labels={"env": "prod"})

        assert parallel(work, 8) == [None] * 8
        assert [ports_of(vm) for vm in VM.objects.all()] == [[80]] * 7

    def test_changes_of_one_firewall(self, parallel: Callable[..., list[Any]]) -> None:
        vms = [server(f"web-{number}") for number in range(5)]
        web = firewall("web", *(on(vm) for vm in vms))
        done = parallel(lambda number: set_rules(web, [{**HTTP, "port": str(number + 1)}]), 6)
        assert not [error for error in done if isinstance(error, Exception)]
        assert [generation(vm) for vm in vms] == [8] * 5
        web.refresh_from_db()
        assert {tuple(ports_of(vm) or ()) for vm in vms} == {(int(web.rules[0]["port"]),)}

    def test_an_application_and_a_deletion(self, parallel: Callable[..., list[Any]]) -> None:
        vm, web = server(), firewall()

        def work(number: int) -> None:
            if number:
                delete_firewall(web)
            else:
                apply_firewall(web, [on(vm)])

        applied, deleted = parallel(work, 2)
        if deleted is None:
            assert isinstance(applied, NotFound)
        else:
            assert (applied, type(deleted)) == (None, InUse)
        assert FirewallUse.objects.count() == Firewall.objects.count()
