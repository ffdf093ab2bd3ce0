"""The audit trail is true, complete, free of secrets, and nobody can change it."""

from __future__ import annotations

import io
import os
import pwd
import runpy
import sys
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Model
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from cloud import requestid
from cloud.actor import UNDECLARED, Actor, Kind, acting, current
from cloud.audit import changing, created
from cloud.errors import Conflict, NotFound
from cloud.hosts import Heartbeat, record_heartbeat, set_schedulable
from cloud.models import ApiToken, AuditEntry, Host, Project
from cloud.snapshots import policies
from cloud.tokens import find_token, issue_token, revoke_token
from tests import factories as make
from vms.actions import PowerCommand, change_protection, delete_vm, power, update_vm
from vms.models import VM, SshKey
from vms.reconcile import sweep
from vms.reports import vm_report
from vms.ssh_keys import create_ssh_key, delete_ssh_key

Parallel = Callable[[Callable[[int], Any], int], list[Any]]
ADA = Actor(Kind.USER, "ada", 7)

pytestmark = pytest.mark.trace


@pytest.fixture
def vm(db: None) -> VM:
    """A running server."""
    make.host()
    make.pool()
    vm = make.ordered().vm
    vm_report(make.report(vm), "host-h1")
    vm.refresh_from_db()
    return vm


def entry(verb: str) -> AuditEntry:
    return AuditEntry.objects.get(verb=verb)


def test_an_entry_says_who_did_what_to_what_and_by_which_request(vm: VM) -> None:
    with acting(ADA), requestid.bound("r-1"):
        action = power(vm, PowerCommand.POWEROFF)
    found = entry("server.poweroff")
    assert (found.actor_kind, found.actor_name, found.actor_id) == ("user", "ada", 7)
    assert (found.resource_type, found.resource_id, found.resource_name) == (
        "server",
        vm.pk,
        "web-1",
    )
    assert (found.project_id, found.project_name) == (vm.project_id, "default")
    assert (found.request_id, found.action_id) == ("r-1", action.pk)


def test_an_entry_holds_what_changed_and_nothing_else(vm: VM) -> None:
    update_vm(vm, labels={"env": "prod"})
    change_protection(vm, delete=True, rebuild=True)
    change_protection(vm, delete=False, rebuild=False)
    labelled = entry("server.update")
    assert (labelled.before, labelled.after) == ({"labels": {}}, {"labels": {"env": "prod"}})
    on = {"delete_protection": True, "rebuild_protection": True}
    freed = AuditEntry.objects.filter(verb="server.change_protection").latest("id")
    assert (freed.before, freed.after) == (on, dict.fromkeys(on, False))


def test_what_was_made_and_what_is_gone_is_told_whole(vm: VM) -> None:
    name, pk = vm.name, vm.pk
    delete_vm(vm)
    vm_report(make.report(vm), "host-h1")
    made, gone = entry("server.create"), entry("server.gone")
    assert made.before is None
    assert made.after is not None
    assert made.after["host"] == {"id": vm.host_id, "name": "h1"}
    assert gone.after is None
    assert gone.before is not None
    assert gone.before["uuid"] == made.after["uuid"] == str(vm.uuid)
    assert (gone.resource_id, gone.resource_name, gone.before["deleting"]) == (pk, name, True)


def test_what_changes_nothing_leaves_no_entry(vm: VM) -> None:
    before = AuditEntry.objects.count()
    power(vm, PowerCommand.POWERON)
    update_vm(vm, name=vm.name, labels=vm.labels)
    set_schedulable(vm.host, True)
    record_heartbeat(Heartbeat("h1", vm.host.uuid or uuid.uuid4(), {"cores": 8}), "host-h1")
    vm_report(make.report(vm), "host-h1")
    sweep()
    assert AuditEntry.objects.count() == before


def test_a_second_machine_is_told_once_however_long_it_knocks(vm: VM) -> None:
    other = uuid.uuid4()
    for _ in range(3):
        record_heartbeat(Heartbeat("h1", other, {}), "host-h1")
    refused = entry("host.refuse")
    assert (refused.before, refused.after) == ({"refused_uuid": None}, {"refused_uuid": str(other)})


def test_a_second_machine_that_is_ever_another_one_is_told_once_too(vm: VM) -> None:
    for _ in range(3):
        record_heartbeat(Heartbeat("h1", uuid.uuid4(), {}), "host-h1")
    assert entry("host.refuse").after is not None


def test_hosts_and_the_sweep_act_under_their_own_names(vm: VM) -> None:
    with acting(ADA):
        power(vm, PowerCommand.SHUTDOWN)
        VM.objects.update(goal_since="2026-01-01T00:00:00Z", observed_power="running")
        sweep()
        vm_report(make.report(vm, power="off", guest_halted=True), "host-h1")
    ignored, halted = entry("server.shutdown_ignored"), entry("server.guest_halted")
    assert (ignored.actor_kind, ignored.actor_name) == ("system", "sweep")
    assert (halted.actor_kind, halted.actor_name) == ("host", "host-h1")
    assert current() == UNDECLARED


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("program", ["manage.py", "deploy/commands.py"])
def test_a_command_acts_under_the_account_that_ran_it(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "location_add", "lab"])
    monkeypatch.setattr(sys, "stdin", io.StringIO('[["location_add", "lab"]]'))
    runpy.run_path(program, run_name="__main__")
    found = entry("location.create")
    account = pwd.getpwuid(os.getuid()).pw_name
    assert (found.actor_kind, found.actor_name) == ("command", account)
    assert found.actor_id == os.getuid()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE cloud_auditentry SET actor_name = 'nobody'",
        "DELETE FROM cloud_auditentry",
        "DELETE FROM cloud_auditentry WHERE false",
        "SET LOCAL session_replication_role = replica; DELETE FROM cloud_auditentry",
        "INSERT INTO cloud_auditentry SELECT * FROM cloud_auditentry"
        " ON CONFLICT (id) DO UPDATE SET actor_name = 'nobody'",
        "TRUNCATE cloud_auditentry",
    ],
)
def test_the_database_refuses_to_change_or_forget_an_entry(db: None, statement: str) -> None:
    issue_token(make.project(), "laptop")
    with connection.cursor() as cursor:
        # Off in tests alone: those that commit empty every table after them.
        cursor.execute("ALTER TABLE cloud_auditentry ENABLE ALWAYS TRIGGER audit_is_never_emptied")
        with pytest.raises(DatabaseError, match="audit trail is append-only"), transaction.atomic():
            cursor.execute(statement)
    assert AuditEntry.objects.get().actor_name == UNDECLARED.name


def test_the_models_own_ways_are_refused_too(db: None) -> None:
    issue_token(make.project(), "laptop")
    found = AuditEntry.objects.get()
    ways: list[Callable[[], object]] = [
        found.save,
        found.delete,
        AuditEntry.objects.all().delete,
        lambda: AuditEntry.objects.update(verb="x"),
    ]
    for way in ways:
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            way()


def test_entries_outlive_all_that_they_name(db: None) -> None:
    project = make.project("short-lived")
    issue_token(project, "laptop")
    project.delete()
    assert entry("token.issue").project_name == "short-lived"


def test_without_its_entry_a_change_does_not_happen(db: None) -> None:
    secret = issue_token(make.project(), "laptop")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE cloud_auditentry ADD CHECK (verb <> 'token.revoke')")
    with pytest.raises(IntegrityError), transaction.atomic():
        revoke_token(ApiToken.objects.get())
    assert find_token(secret) is not None


def test_without_its_change_an_entry_does_not_exist(vm: VM) -> None:
    with transaction.atomic():
        power(vm, PowerCommand.RESET)
        transaction.set_rollback(True)
    assert not AuditEntry.objects.filter(verb="server.reset").exists()


@pytest.mark.django_db(transaction=True)
def test_an_entry_outside_of_a_transaction_is_refused() -> None:
    with pytest.raises(TransactionManagementError):
        created(make.project())


def test_a_verb_that_nobody_declared_is_refused(db: None) -> None:
    project = make.project()
    with pytest.raises(ValueError, match="declare it"), changing(project, "repaint"):
        project.name = "red"


@pytest.mark.django_db(transaction=True)
def test_of_parallel_changes_each_is_told_with_what_was_really_before(parallel: Parallel) -> None:
    make.host()
    make.pool()
    vm = make.ordered().vm

    def rename(number: int) -> Any:
        return update_vm(VM.objects.get(pk=vm.pk), name=f"web-{number + 10}")

    results = parallel(rename, 8)
    refused = [one for one in results if isinstance(one, Exception)]
    assert all(isinstance(one, Conflict) for one in refused)
    told = AuditEntry.objects.filter(verb="server.update").order_by("id")
    assert len(told) == 8 - len(refused)
    names = ["web-1", *(one.after["name"] for one in told if one.after)]
    assert [one.before for one in told] == [{"name": name} for name in names[:-1]]
    assert VM.objects.get().name == names[-1]


@pytest.mark.django_db(transaction=True)
def test_a_change_of_what_was_read_too_long_ago_is_refused() -> None:
    host, stale = make.host(), Host.objects.get()
    set_schedulable(host, False)
    with pytest.raises(Conflict, match="try again"):
        set_schedulable(stale, True)
    key = create_ssh_key(make.project(), name="key", public_key=make.SSH_KEY, labels={})
    again = SshKey.objects.get()
    delete_ssh_key(key)
    with pytest.raises(NotFound):
        delete_ssh_key(again)
    assert AuditEntry.objects.filter(verb="ssh_key.delete").count() == 1


def test_no_secret_enters_the_trail(db: None) -> None:
    make.host()
    make.pool()
    ordered = make.ordered(user_data="password: hunter2hunter2")
    secret = issue_token(make.project(), "laptop")
    user = User(username="ada")
    with transaction.atomic(), changing(user):
        user.set_password("correct horse battery staple")
        user.save()
    with transaction.atomic(), changing(user, "change_password"):
        user.set_password("another horse battery staple")
        user.save()
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(entry::text, ' ') FROM cloud_auditentry AS entry")
        text = cursor.fetchone()[0]
    for planted in (
        "hunter2",
        secret,
        ApiToken.objects.get().digest,
        ordered.root_password,
        ordered.vm.root_password_hash,
        user.password,
        "horse battery",
        "pbkdf2",
    ):
        assert planted
        assert planted not in text
    assert entry("user.change_password").after == {"password": "(secret)"}
    made = entry("server.create").after or {}
    assert made["user_data"]["bytes"] == len("password: hunter2hunter2")
    assert len(made["user_data"]["hmac_sha256"]) == 64
    assert made["root_password_hash"] == "(secret)"


def test_whatever_is_named_like_a_secret_is_withheld() -> None:
    words = ("password", "secret", "digest", "token", "hash", "private", "user_data", "response")
    for model, policy in policies.items():
        withheld = {*policy.secret, *policy.digested, *policy.unrecorded}
        names = {column.name for column in model._meta.concrete_fields}
        assert withheld <= names
        for name in names:
            assert name in withheld or not any(word in name for word in words), (model, name)


def test_policies_name_only_what_the_models_have() -> None:
    models: set[type[Model]] = set(apps.get_models())
    assert set(policies) <= models
    for model, policy in policies.items():
        assert set(policy.many) <= {column.name for column in model._meta.many_to_many}
        assert all(isinstance(getattr(model, name), property) for name in policy.derived)


def test_a_new_servers_entry_and_its_address_cost_one_insert_each_and_nothing_else(vm: VM) -> None:
    order = make.order("web-2")
    project = Project.objects.get()
    with CaptureQueriesContext(connection) as seen:
        make.create_vm(project, order)
    told = [query["sql"] for query in seen if "cloud_auditentry" in query["sql"]]
    assert len(told) == 2
    assert all(sql.startswith("INSERT") for sql in told)
