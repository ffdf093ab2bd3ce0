"""What the admin's pages answer and refuse, over plain HTTP."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django.fixtures import Settings

from cloud.hosts import set_schedulable
from cloud.models import Action, ApiToken, Host
from cloud.tokens import find_token, issue_token
from cloud.wire import Failure
from networks.models import Address, FloatingIp, IpType, Network, PrimaryIp
from networks.public_ips import IpOrder, create_ip
from tests import factories as make
from tests.web.conftest import ready
from vms import reports
from vms.actions import delete_vm
from vms.firewalls.actions import FirewallOrder, Target, create_firewall
from vms.floating_ips import create_floating_ip
from vms.models import VM, ImageCopy, SshKey, UsageSample

pytestmark = pytest.mark.django_db

LISTS = (
    "cloud/action",
    "cloud/apitoken",
    "cloud/auditentry",
    "cloud/drift",
    "cloud/host",
    "cloud/location",
    "cloud/project",
    "networks/address",
    "networks/firewall",
    "networks/floatingip",
    "networks/network",
    "networks/primaryip",
    "networks/privatenetwork",
    "vms/image",
    "vms/servertype",
    "vms/sshkey",
    "vms/vm",
    "auth/user",
)


@pytest.fixture
def vm(hosts: None) -> VM:
    return ready("web-1")


def test_a_list_shows_the_addresses_of_a_server_below_each_other(client: Client, vm: VM) -> None:
    make.pool("2001:db8:c::/48")
    both = ready("web-2").nics.get()
    assert both.ipv4
    assert both.ipv6
    shown = (f'<code class="c-code">{ip.address}</code>' for ip in (both.ipv4, both.ipv6))
    assert "<br>".join(shown) in client.get("/admin/vms/vm/").content.decode()


def test_the_sidebar_counts_what_is_under_way_and_nothing_else(client: Client, vm: VM) -> None:
    def counted() -> bool:
        return "min-w-[18px]" in client.get("/admin/vms/vm/").content.decode()

    Action.objects.update(status=Action.Status.SUCCESS)
    assert not counted()
    delete_vm(vm)
    assert counted()


@pytest.mark.parametrize("path", LISTS)
def test_every_list_answers_when_it_is_empty(client: Client, path: str) -> None:
    assert client.get(f"/admin/{path}/").status_code == 200


@pytest.mark.parametrize("path", ["", *(f"{path}/" for path in LISTS)])
def test_the_number_of_queries_does_not_grow_with_the_rows(
    client: Client, hosts: None, path: str
) -> None:
    def fill(number: int) -> None:
        make.host(f"more-{number}")
        vm = ready(f"web-{number}")
        ImageCopy.objects.create(image=vm.image, host=vm.host)
        make.image(f"image-{number}")
        make.server_type(f"type-{number}")
        make.location(f"place-{number}")
        pool = make.pool(f"198.51.100.{number * 16}/28")
        kept = IpOrder(IpType.IPV4, pool.location)
        create_ip(PrimaryIp, make.project(), kept)
        create_floating_ip(make.project(), kept, vm)
        issue_token(make.project(f"project-{number}"), "laptop")
        SshKey.objects.create(
            project=make.project(f"project-{number}"), name="key", public_key="k", fingerprint="f"
        )
        User.objects.create_user(f"user-{number}")
        targets = [Target(server=vm.pk), Target(selector=f"tier={number}")]
        create_firewall(vm.project, FirewallOrder(f"firewall-{number}", apply_to=targets))

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert client.get(f"/admin/{path}").status_code == 200
        return len(seen)

    fill(1)
    ImageCopy.objects.all().delete()
    few = queries()
    for number in (2, 3, 4):
        ImageCopy.objects.all().delete()
        fill(number)
    assert queries() == few


@pytest.mark.parametrize(
    "path", ["cloud/host", "vms/vm", "vms/image", "vms/sshkey", "cloud/action", "networks/address"]
)
def test_facts_are_neither_saved_nor_deleted_by_forms(client: Client, vm: VM, path: str) -> None:
    SshKey.objects.create(project=vm.project, name="key", public_key="k", fingerprint="f")
    row = {
        "cloud/host": vm.host,
        "vms/vm": vm,
        "vms/image": vm.image,
        "vms/sshkey": SshKey.objects.get(),
        "cloud/action": Action.objects.first(),
        "networks/address": Address.objects.get(),
    }[path]
    assert client.post(f"/admin/{path}/{row.pk}/change/", {"name": "other"}).status_code == 403
    assert client.post(f"/admin/{path}/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    bulk = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    client.post(f"/admin/{path}/", bulk)
    assert type(row).objects.filter(pk=row.pk).exists()


def test_nothing_happens_without_the_confirmation(client: Client, vm: VM) -> None:
    answer = client.get(f"/admin/vms/vm/{vm.pk}/destroy/")
    assert b"There is no way back" in answer.content
    vm.refresh_from_db()
    assert not vm.deleting


def test_a_person_who_may_only_look_is_offered_nothing_and_refused(hosts: None) -> None:
    vm = ready("web-1")
    guest = User.objects.create_user("guest", is_staff=True)
    guest.user_permissions.add(Permission.objects.get(codename="view_vm"))
    client = Client()
    client.force_login(guest)
    page = client.get(f"/admin/vms/vm/{vm.pk}/change/")
    assert page.status_code == 200
    assert b"Power off" not in page.content
    assert client.post(f"/admin/vms/vm/{vm.pk}/poweroff/").status_code == 403
    assert client.post("/admin/vms/vm/add/", {"name": "x"}).status_code == 403
    assert client.get("/admin/cloud/host/").status_code == 403


def test_a_refused_operation_is_a_message_not_a_crash(client: Client, vm: VM) -> None:
    delete_vm(vm)
    answer = client.post(f"/admin/vms/vm/{vm.pk}/reboot/", follow=True)
    assert answer.status_code == 200
    assert b"Reboot: not done. Server web-1 is being deleted" in answer.content


def test_an_operation_on_a_server_that_is_gone_is_not_found(client: Client) -> None:
    assert client.post("/admin/vms/vm/4711/poweroff/").status_code == 404


def test_a_failure_is_shown_with_its_reason_and_what_to_do(client: Client, vm: VM) -> None:
    failure = Failure("qemu_failed", "QEMU ended right after its start.", retryable=False)
    reports.vm_report(make.report(vm, failure=failure, converged=False, power="off"), "host-h1")
    page = client.get(f"/admin/vms/vm/{vm.pk}/change/").content.decode()
    assert "QEMU ended right after its start." in page
    assert "use Power on" in page


def test_a_server_on_a_silent_host_is_explained_not_called_off(
    client: Client, vm: VM, settings: Settings
) -> None:
    late = timezone.now() - timedelta(seconds=settings.HOST_SILENT_SECONDS * 2)
    Host.objects.update(last_heartbeat=late)
    page = client.get(f"/admin/vms/vm/{vm.pk}/change/").content.decode()
    assert "Its host does not speak" in page
    assert "nothing is restarted or taken away" in page
    assert "silent for 1 min 0 s" in client.get("/admin/cloud/host/").content.decode()


def test_a_second_machine_under_a_hosts_name_is_warned_about(client: Client, vm: VM) -> None:
    Host.objects.update(refused_uuid="3f0ab3a8-59a7-4f6e-94c1-1f1a52ad4c51")
    page = client.get(f"/admin/cloud/host/{vm.host_id}/change/").content.decode()
    assert "A second machine claims this name" in page


def test_what_nobody_owns_on_a_host_is_listed_on_its_page(client: Client, vm: VM) -> None:
    Host.objects.update(leftovers=["interface tap-old (not ours)"])
    page = client.get(f"/admin/cloud/host/{vm.host_id}/change/").content.decode()
    assert "Beyond the inventory" in page
    assert "interface tap-old (not ours)" in page


def test_a_host_is_closed_and_opened_for_new_servers(client: Client, vm: VM) -> None:
    host = f"/admin/cloud/host/{vm.host_id}"
    client.post(f"{host}/close/")
    assert not Host.objects.get().schedulable
    assert b"closed for new servers" in client.get(f"{host}/change/").content
    set_schedulable(vm.host, True)
    assert b"closed for new servers" not in client.get(f"{host}/change/").content


def test_a_token_is_shown_once_and_works_until_it_is_revoked(client: Client) -> None:
    project = make.project()
    answer = client.post("/admin/cloud/apitoken/add/", {"project": project.pk, "name": "laptop"})
    secret = answer.context["secret"].value
    assert secret in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    token = find_token(secret)
    assert token is not None
    assert secret not in client.get(f"/admin/cloud/apitoken/{token.pk}/change/").content.decode()
    client.post(f"/admin/cloud/apitoken/{token.pk}/revoke/")
    assert find_token(secret) is None
    assert ApiToken.objects.get().revoked_at is not None


def test_a_key_that_is_none_comes_back_with_the_reason_at_its_field(client: Client) -> None:
    project = make.project()
    order = {"project": project.pk, "name": "laptop", "public_key": "ssh-rsa nonsense"}
    answer = client.post("/admin/vms/sshkey/add/", order)
    assert "is not an OpenSSH public key" in answer.context["form"].errors["public_key"][0]
    client.post("/admin/vms/sshkey/add/", {**order, "public_key": make.SSH_KEY})
    assert SshKey.objects.get().name == "laptop"


def test_the_ledger_tells_who_held_an_address_when(client: Client, vm: VM) -> None:
    address = Address.objects.get()
    delete_vm(vm)
    reports.vm_report(make.report(vm), "host-h1")
    page = client.get(f"/admin/networks/address/{address.pk}/change/").content.decode()
    assert f"server web-1 #{vm.pk}" in page
    assert "released" in page


def test_an_ip_is_shown_with_its_server_and_given_back(client: Client, vm: VM) -> None:
    order = IpOrder(IpType.IPV4, vm.host.location, name="vip")
    ip = create_floating_ip(vm.project, order, vm)[0]
    path = f"/admin/networks/floatingip/{ip.pk}"
    assert "web-1" in client.get(f"{path}/change/").content.decode()
    refused = client.post(f"{path}/destroy/", follow=True).content.decode()
    assert "unassign it first" in refused
    for step in ("unassign", "destroy"):
        client.post(f"{path}/{step}/")
    assert not FloatingIp.objects.exists()
    address = Address.objects.get(pk=ip.address_id)
    page = client.get(f"/admin/networks/address/{address.pk}/change/").content.decode()
    # Its host has not said yet that it let go.
    assert "in quarantine" in page
    assert "floating IP vip" in page
    primary = vm.nics.get().ipv4
    page = client.get(f"/admin/networks/primaryip/{primary.pk}/change/").content.decode()
    assert "goes too" in page


def test_a_pool_in_use_stays(client: Client, vm: VM) -> None:
    pool = Network.objects.get()
    page = f"/admin/networks/network/{pool.pk}"
    assert b"will be refused" in client.get(f"{page}/remove/").content
    assert b"still in use" in client.post(f"{page}/remove/", follow=True).content


def test_an_action_outlives_its_server_and_says_so(client: Client, vm: VM) -> None:
    delete_vm(vm)
    reports.vm_report(make.report(vm), "host-h1")
    page = client.get("/admin/cloud/action/").content.decode()
    assert f"server #{vm.pk}, gone" in page


def test_open_actions_come_first(client: Client, vm: VM) -> None:
    delete_vm(vm)
    ready("web-2")
    shown = client.get("/admin/cloud/action/").context["cl"].result_list
    assert shown[0].command == "delete_server"


def test_a_pool_that_overlaps_another_is_refused_at_the_form(client: Client) -> None:
    pool = make.pool("203.0.113.0/28")
    order = {
        "name": "second",
        "location": pool.location_id,
        "cidr": "203.0.113.8/29",
        "mode": "routed",
    }
    answer = client.post("/admin/networks/network/add/", order)
    assert answer.status_code == 200
    assert "overlaps a pool" in answer.context["form"].errors["cidr"][0]
    wrong = client.post("/admin/networks/network/add/", {**order, "cidr": "2001:db8::/72"})
    assert "is not from /32 to /64" in wrong.context["form"].errors["cidr"][0]
    client.post("/admin/networks/network/add/", {**order, "cidr": "203.0.113.16/28"})
    assert Network.objects.count() == 2


def test_a_host_joins_with_a_bundle_that_is_shown_once(client: Client, rabbitmq: str) -> None:
    location = make.location()
    answer = client.post("/admin/cloud/host/add/", {"name": "h9", "location": location.pk})
    assert '"host": "h9"' in answer.context["secret"].value
    host = Host.objects.get(name="h9")
    again = client.post(f"/admin/cloud/host/{host.pk}/rejoin/")
    assert again.context["secret"].value != answer.context["secret"].value


def test_a_broker_that_is_away_is_told_at_the_form(client: Client, settings: Settings) -> None:
    settings.BROKER_API_URL = settings.BROKER_URL = "amqp://127.0.0.1:9/none"
    order = {"name": "h9", "location": make.location().pk}
    answer = client.post("/admin/cloud/host/add/", order)
    assert answer.status_code == 200
    assert answer.context["form"].non_field_errors()
    assert not Host.objects.exists()


def test_a_new_cloud_says_what_to_set_up_next(client: Client) -> None:
    page = client.get("/admin/").content.decode()
    assert "Set up this cloud" in page
    assert "Let a host join" in page


def test_an_action_leads_to_its_tasks_in_flower_where_there_is_one(
    client: Client, vm: VM, settings: Settings
) -> None:
    action = Action.objects.earliest("pk")
    action.request_id = "Root=1-2;a/b+c"
    action.save()
    settings.FLOWER_URL = "https://flower.example/"
    page = client.get(f"/admin/cloud/action/{action.pk}/change/").content.decode()
    assert 'href="https://flower.example/tasks?request_id=Root%3D1-2%3Ba%2Fb%2Bc"' in page

    settings.FLOWER_URL = ""
    page = client.get(f"/admin/cloud/action/{action.pk}/change/").content.decode()
    assert "Tasks in Flower" not in page


def test_a_server_shows_how_it_fared_in_the_last_hour(client: Client, vm: VM) -> None:
    page = f"/admin/vms/vm/{vm.pk}/change/"
    assert b"last hour" not in client.get(page).content
    now = timezone.now()
    for minutes in (90, 2, 1):
        at = now - timedelta(minutes=minutes)
        UsageSample.objects.create(vm=vm, at=at, seconds=60, cpu=minutes, memory_bytes=128 * 2**20)
    text = client.get(page).content.decode()
    assert text.count('<svg class="c-chart"') == 4
    for words in ("used 1 %", "held 128 MiB", "read unknown"):
        assert words in text
    cpu = text.partition('aria-label="CPU"')[2].partition("</svg>")[0]
    assert cpu.count("L") == 1
