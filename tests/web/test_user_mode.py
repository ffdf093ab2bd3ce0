"""Hosts without privileges in the admin: what they give and lack, and how servers are reached."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from playwright.sync_api import Page, expect

from cloud.models import Host
from tests import factories as make
from tests.web.conftest import ready
from vms import reports
from vms.attachments import PublicNet
from vms.models import VM, ForwardedPort
from vms.ports import Forward

pytestmark = [pytest.mark.rootless, pytest.mark.django_db]

MENDS = "No vde_switch here: `apt install vde2` mends that."


@pytest.fixture
def host(db: None) -> Host:
    return make.user_host()


@pytest.fixture
def vm(host: Host) -> VM:
    return ready("web-1")


def text(client: Client, path: str) -> str:
    return client.get(f"/admin/{path}").content.decode()


def test_a_server_shows_how_to_log_in_through_its_host(client: Client, vm: VM) -> None:
    page = text(client, f"vms/vm/{vm.pk}/change/")
    assert "ssh -p 30000 root@192.0.2.30" in page
    assert "Forwarded ports" in page
    assert "22/tcp" in page
    assert "Change forwarded ports" in page
    assert "192.0.2.30:30000" in text(client, "vms/vm/")


def test_a_server_with_an_address_has_nothing_to_forward(client: Client, hosts: None) -> None:
    vm = ready("web-1")
    page = text(client, f"vms/vm/{vm.pk}/change/")
    assert "orwarded ports" not in page
    assert "203.0.113.1" in page
    refused = client.post(f"/admin/vms/vm/{vm.pk}/ports/", {"forwarded_ports": "22"})
    assert "is not behind the address of its host" in refused.content.decode()


def test_forwarded_ports_are_changed_by_a_form(client: Client, vm: VM) -> None:
    form = f"/admin/vms/vm/{vm.pk}/ports/"
    assert ">22/tcp</textarea>" in client.get(form).content.decode().replace("\n", "")
    wrong = client.post(form, {"forwarded_ports": "web"})
    assert "“web” is not of the form 22/tcp." in wrong.context["form"].errors["forwarded_ports"]
    doubled = client.post(form, {"forwarded_ports": "80 80/tcp"})
    assert "named twice" in doubled.context["form"].errors["forwarded_ports"][0]
    client.post(form, {"forwarded_ports": "80\r\n53/udp"})
    page = text(client, f"vms/vm/{vm.pk}/change/")
    assert "ssh -p" not in page
    assert "192.0.2.30:30001" in page
    assert "Its host has not proved yet that it let go." in page
    reports.vm_report(make.report(vm), "host-u1")
    assert ForwardedPort.objects.count() == 2
    assert "let go" not in text(client, f"vms/vm/{vm.pk}/change/")


def test_who_may_only_look_sees_the_ports_and_changes_none(vm: VM) -> None:
    guest = User.objects.create_user("guest", is_staff=True)
    guest.user_permissions.add(Permission.objects.get(codename="view_vm"))
    client = Client()
    client.force_login(guest)
    page = text(client, f"vms/vm/{vm.pk}/change/")
    assert "ssh -p 30000 root@192.0.2.30" in page
    assert "Change forwarded ports" not in page
    assert client.post(f"/admin/vms/vm/{vm.pk}/ports/", {"forwarded_ports": ""}).status_code == 403


def test_a_server_is_ordered_with_ports_in_place_of_addresses(client: Client, host: Host) -> None:
    make.host(memory_mb=2**20)
    make.pool()
    make.project()
    image, size = make.image(), make.server_type()
    order = {"name": "web-1", "image": image.pk, "server_type": size.pk, "public_ipv4": "on"}
    client.post("/admin/vms/vm/add/", {**order, "forwarded_ports": "22\r\n443"})
    vm = VM.objects.get()
    assert vm.host == host
    rows = vm.nics.get().led_ports
    assert [(one.guest_port, one.port) for one in rows] == [(22, 30000), (443, 30001)]


def test_a_host_says_what_it_lacks_first_and_what_mends_that(client: Client, host: Host) -> None:
    Host.objects.update(
        problems=[{"code": "vde_missing", "message": MENDS}],
        public_ranges=["198.51.100.128/28"],
        cable_endpoint="192.0.2.30:51821",
    )
    page = text(client, f"cloud/host/{host.pk}/change/")
    assert "It lacks something: vde_missing" in page
    assert "apt install vde2" in page
    for fact in ("User mode", "30000-30999", "198.51.100.128/28", "192.0.2.30:51821"):
        assert fact in page
    assert "lacks something" in text(client, "cloud/host/")


def test_a_host_with_privileges_says_nothing_of_user_mode(client: Client, hosts: None) -> None:
    page = text(client, f"cloud/host/{Host.objects.get().pk}/change/")
    assert "ser mode" not in page
    assert "lacks something" not in page


def test_the_list_of_servers_costs_the_same_for_any_number_of_ports(
    client: Client, host: Host
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            client.get("/admin/vms/vm/")
        return len(seen)

    ready("web-1")
    few = queries()
    for number in (2, 3, 4):
        ports = tuple(Forward("tcp", port) for port in (22, 80))
        make.ordered(f"web-{number}", public_net=PublicNet(forwarded=ports))
    assert queries() == few


@pytest.mark.django_db(transaction=True)
def test_an_operator_opens_another_port_in_the_browser(page: Page, vm: VM) -> None:
    page.goto(f"/admin/vms/vm/{vm.pk}/change/")
    expect(page.get_by_text("ssh -p 30000 root@192.0.2.30")).to_be_visible()
    page.get_by_role("link", name="Change forwarded ports").click()
    page.get_by_label("Ports of the server").fill("22/tcp\n8080/tcp")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The forwarded ports of web-1 are changed")).to_be_visible()
    expect(page.get_by_role("row", name="192.0.2.30:30001 8080/tcp")).to_contain_text("asked for")
    reports.vm_report(make.report(vm), "host-u1")
    expect(page.get_by_role("row", name="192.0.2.30:30001 8080/tcp")).to_contain_text("open")
