"""Everything that changes what users and operators own leaves its entry: a story for each verb.

A new function or verb fails here until it has a story, or stands among those that change nothing.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable
from datetime import timedelta
from types import FunctionType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from cloud import hosts, snapshots, tokens
from cloud.hosts import Heartbeat, add_host, record_heartbeat, revoke_host, set_schedulable
from cloud.models import ApiToken, AuditEntry, Host, Location, Project
from cloud.tokens import issue_token, revoke_token
from networks.models import Firewall, FloatingIp, Network, PrimaryIp, PrivateNetwork
from tests import factories as make
from tests.db import (
    drift_stories,
    firewall_stories,
    network_stories,
    private_stories,
    restored_stories,
    user_stories,
)
from tests.db.stories import running, stories, story, told
from vms import actions, images, losses, reconcile, reports, ssh_keys
from vms.actions import PowerCommand, change_protection, create_vm, delete_vm, power, update_vm
from vms.images import Manifest, register_image, retire_image
from vms.models import VM, Image, Nic, ServerType, SshKey
from vms.reconcile import forgive_ignored_shutdowns
from vms.reports import vm_report
from vms.spec import Failure
from vms.ssh_keys import create_ssh_key, delete_ssh_key, update_ssh_key

pytestmark = pytest.mark.django_db

MODULES = (
    *(actions, hosts, images, losses, reconcile, reports, ssh_keys, tokens),
    *network_stories.MODULES,
    *firewall_stories.MODULES,
    *private_stories.MODULES,
    *user_stories.MODULES,
    *drift_stories.MODULES,
    *restored_stories.MODULES,
)
# They compute, write what was seen and what the cloud keeps for itself, or call one with a story.
SILENT: tuple[Callable[..., Any], ...] = (
    actions.check_hostname,
    images.plan_copies,
    images.read_manifest,
    losses.check_silent,
    reconcile.dispatch_due_images,
    reconcile.dispatch_due_vms,
    reconcile.end_overdue_actions,
    reconcile.mark_unknown,
    reconcile.recognise,
    reconcile.sweep,
    reconcile.tidy,
    reconcile.watch,
    reports.host_report,
    reports.image_report,
    ssh_keys.fingerprint_of,
    *drift_stories.SILENT,
    *restored_stories.SILENT,
    tokens.find_token,
    tokens.note_use,
    hosts.forget_broker_user,
    hosts.note_heartbeat,
    hosts.record_stranger,
    *network_stories.SILENT,
    *private_stories.SILENT,
)


def key() -> SshKey:
    return create_ssh_key(make.project(), name="key", public_key=make.SSH_KEY, labels={})


def token() -> ApiToken:
    issue_token(make.project(), "laptop")
    return ApiToken.objects.get()


def manifest() -> Manifest:
    disk = {"url": "http://192.0.2.2/d.qcow2", "sha256": "ab" * 32, "bytes": 10}
    return Manifest("debian", "Debian", "debian", "12", "qcow2", 2**30, disk)


def heartbeat(machine: uuid.UUID) -> None:
    record_heartbeat(Heartbeat("h1", machine, {}), "host-h1")


def form(path: str, **fields: Any) -> None:
    """An administrator sends a form of the admin, and it is accepted."""
    admin = User.objects.filter(username="root").first() or User.objects.create_superuser("root")
    browser = Client()
    browser.force_login(admin)
    assert browser.post(f"/admin/{path}", fields).status_code == 302


def server_type_form(path: str, **fields: Any) -> None:
    sizes = {"cores": 1, "memory_mb": 256, "disk_gb": 1, "cpu_type": "shared"}
    form(f"vms/servertype/{path}", **{"name": "tiny", **sizes, **fields})


@story("server.create", create_vm)
def _() -> None:
    running()


@story("server.update", update_vm)
def _() -> None:
    update_vm(running(), name="db-1")


@story("server.change_protection", change_protection)
def _() -> None:
    change_protection(running(), delete=True, rebuild=True)


@story("server.delete", delete_vm)
def _() -> None:
    delete_vm(running())


@story("server.poweroff", power)
def _() -> None:
    power(running(), PowerCommand.POWEROFF)


@story("server.poweron", power)
def _() -> None:
    vm = running()
    power(vm, PowerCommand.POWEROFF)
    power(vm, PowerCommand.POWERON)


@story("server.shutdown", power)
def _() -> None:
    power(running(), PowerCommand.SHUTDOWN)


@story("server.reboot", power)
def _() -> None:
    power(running(), PowerCommand.REBOOT)


@story("server.reset", power)
def _() -> None:
    power(running(), PowerCommand.RESET)


@story("server.give_up", vm_report)
def _() -> None:
    make.host()
    make.pool()
    failure = Failure("image_broken", "The image is broken.", retryable=False)
    vm = make.ordered().vm
    vm_report(make.report(vm, present=False, converged=False, failure=failure), "host-h1")


@story("server.guest_halted", vm_report)
def _() -> None:
    vm_report(make.report(running(), power="off", guest_halted=True), "host-h1")


@story("server.gone", vm_report)
def _() -> None:
    vm = running()
    delete_vm(vm)
    vm_report(make.report(vm), "host-h1")


@story("server.shutdown_ignored", forgive_ignored_shutdowns)
def _() -> None:
    power(running(), PowerCommand.SHUTDOWN)
    forgive_ignored_shutdowns(timezone.now() + timedelta(minutes=3))


@story("ssh_key.create", create_ssh_key)
def _() -> None:
    key()


@story("ssh_key.update", update_ssh_key)
def _() -> None:
    update_ssh_key(key(), labels={"a": "b"})


@story("ssh_key.delete", delete_ssh_key)
def _() -> None:
    delete_ssh_key(key())


@story("image.register", register_image)
def _() -> None:
    register_image(manifest())


@story("image.retire", retire_image)
def _() -> None:
    retire_image(register_image(manifest())[0])


@story("token.issue", issue_token)
def _() -> None:
    token()


@story("token.revoke", revoke_token)
def _() -> None:
    revoke_token(token())


@story("host.add", add_host)
def _() -> None:
    add_host("h1", make.location())


@story("authority.create", hosts.authority)
def _() -> None:
    hosts.authority()


@story("host.rejoin", add_host)
def _() -> None:
    add_host("h1", make.location())
    add_host("h1", make.location())


@story("host.revoke", revoke_host)
def _() -> None:
    revoke_host(make.host())


@story("host.write_off", losses.write_off)
def _() -> None:
    losses.write_off(make.host(last_heartbeat=None))


@story("host.close", set_schedulable)
def _() -> None:
    set_schedulable(make.host(), False)


@story("host.open", set_schedulable)
def _() -> None:
    set_schedulable(make.host(schedulable=False), True)


@story("host.claim", record_heartbeat)
def _() -> None:
    make.host(uuid=None)
    heartbeat(uuid.uuid4())


@story("host.refuse", record_heartbeat)
def _() -> None:
    make.host()
    heartbeat(uuid.uuid4())


@story("project.create")
def _() -> None:
    call_command("token_add", "web", "laptop")


@story("project.update")
def _() -> None:
    form(f"cloud/project/{make.project().pk}/change/", name="renamed")


@story("location.create")
def _() -> None:
    call_command("location_add", "lab", "--city", "Berlin")


@story("location.update")
def _() -> None:
    values = {"city": "Bonn", "country": "DE", "network_zone": "local"}
    form(f"cloud/location/{make.location().pk}/change/", **values)


@story("location.delete")
def _() -> None:
    form(f"cloud/location/{make.location().pk}/delete/", post="yes")


@story("server_type.create")
def _() -> None:
    call_command("catalogue")


@story("server_type.update")
def _() -> None:
    server_type_form(f"{make.server_type().pk}/change/", description="Small")


@story("server_type.delete")
def _() -> None:
    server_type_form(f"{make.server_type().pk}/delete/", post="yes")


@story("user.create")
def _() -> None:
    secret = {"password1": "a-long-enough-password", "password2": "a-long-enough-password"}
    form("auth/user/add/", username="ada", usable_password="true", **secret)


@story("user.update")
def _() -> None:
    ada = User.objects.create_user("ada")
    joined = {"date_joined_0": "2026-11-23", "date_joined_1": "10:00:00"}
    form(f"auth/user/{ada.pk}/change/", username="ada", is_staff="on", **joined)


@story("user.delete")
def _() -> None:
    ada = User.objects.create_user("ada")
    form("auth/user/", action="delete_selected", _selected_action=ada.pk, post="yes")


@story("user.change_password")
def _() -> None:
    ada = User.objects.create_user("ada", password="the-one-before")
    secret = {"password1": "a-long-enough-password", "password2": "a-long-enough-password"}
    fields = {"usable_password": "true", "set-password": "1", **secret}
    form(f"auth/user/{ada.pk}/password/", **fields)


@pytest.mark.parametrize("verb", stories)
def test_what_is_done_leaves_its_entry(verb: str, request: pytest.FixtureRequest) -> None:
    if verb in ("host.add", "host.rejoin", "drift.repair"):
        request.getfixturevalue("rabbitmq")
    stories[verb]()
    entry = AuditEntry.objects.filter(verb=verb).latest("id")
    assert entry.resource_name
    made = (".create", ".add", ".issue", ".register", ".attach")
    assert (entry.before is None) == verb.endswith(made)
    # A server or network that is deleted is not gone before its hosts have proved it.
    proved_later = ("server.delete", "network.delete")
    gone = verb.endswith((".delete", ".gone", ".detach")) and verb not in proved_later
    assert (entry.after is None) == gone
    # Its password is new, which no field of the row shows.
    assert entry.before or entry.after or verb == "host.rejoin"


def test_every_verb_has_its_story() -> None:
    assert sorted(stories) == snapshots.verbs()


def test_every_function_that_may_change_something_has_its_story() -> None:
    public = {
        function
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert {named(function) for function in public - told} == {named(one) for one in SILENT}


def named(function: Any) -> str:
    assert isinstance(function, FunctionType)
    return f"{function.__module__}.{function.__name__}"


def test_every_model_that_people_change_is_audited() -> None:
    owned = {User, Project, ApiToken, Location, Host, Image, ServerType, SshKey, VM, Network}
    owned |= {PrimaryIp, FloatingIp, Firewall, PrivateNetwork, Nic}
    assert owned <= set(snapshots.policies)
