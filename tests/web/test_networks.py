"""Private networks in the admin: made, joined and read by a person."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.db import transaction
from django.test import Client
from playwright.sync_api import Page, expect

from cloud.hosts import revoke_host
from cloud.models import Host
from networks.models import PrivateNetwork
from tests import factories as make
from tests.db import mesh
from tests.web.conftest import ready
from vms.private.servers import attach_to_network, change_alias_ips

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("hosts")]


@pytest.fixture(autouse=True)
def in_mesh(hosts: None) -> None:
    Host.objects.update(**mesh.facts(1))


def test_a_network_is_made_joined_and_watched(page: Page) -> None:
    make.project()
    vm = ready("web-1")
    page.goto("/admin/networks/privatenetwork/add/")
    page.get_by_label("Name", exact=True).fill("backend")
    page.get_by_label("Range").fill("8.8.0.0/16")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("8.8.0.0/16 is not inside one of the private networks")).to_be_visible()
    page.get_by_label("Range").fill("10.0.0.0/16")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("Network backend is added.")).to_be_visible()
    page.get_by_role("link", name="Attach a server").click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("web-1 is attached to backend")).to_be_visible()
    expect(page.get_by_role("row", name="web-1 10.0.0.2")).to_contain_text("attaching")
    expect(page.get_by_role("row", name="h1 100.64.0.2")).to_contain_text("told")
    expect(page.locator("#live-hero")).to_contain_text("1 under way")
    mesh.converge(vm)
    mesh.hosts_obey()
    expect(page.locator("#live-hero")).not_to_contain_text("under way")
    expect(page.get_by_role("row", name="h1 100.64.0.2")).to_contain_text("as told")
    page.goto(f"/admin/vms/vm/{vm.pk}/change/")
    expect(page.get_by_role("row", name="1 10.0.0.2")).to_contain_text("backend")


def test_a_network_gets_subnets_routes_and_another_name(client: Client) -> None:
    network = mesh.network()
    url = f"/admin/networks/privatenetwork/{network.pk}"
    client.post(f"{url}/subnet/", {"network_zone": "local", "subnet": ""})
    client.post(f"{url}/route/", {"destination": "192.168.0.0/16", "gateway": "10.0.1.2"})
    client.post(f"{url}/settings/", {"name": "back", "labels": "tier=db", "egress": "on"})
    network.refresh_from_db()
    assert [str(one) for one in network.subnets.all()] == ["10.0.0.0/24", "10.0.1.0/24"]
    assert [str(one) for one in network.routes.all()] == ["192.168.0.0/16 via 10.0.1.2"]
    assert (network.name, network.labels, network.egress) == ("back", {"tier": "db"}, True)
    wrong = client.post(f"{url}/route/", {"destination": "10.0.0.0/24", "gateway": "10.0.1.2"})
    assert "overlaps" in wrong.context["form"].errors["destination"][0]


def test_a_network_with_servers_is_listed_protected_and_deleted(client: Client) -> None:
    network = mesh.network()
    vm = ready("web-1")
    attach_to_network(vm, network)
    change_alias_ips(vm, network, ["10.0.0.99"])
    url = f"/admin/networks/privatenetwork/{network.pk}"
    assert b"10.0.0.99" in client.get(f"{url}/change/").content
    assert b"1 under way" in client.get("/admin/networks/privatenetwork/").content
    client.post(f"{url}/protect/")
    assert b"is protected" in client.post(f"{url}/forget/", follow=True).content
    client.post(f"{url}/unprotect/")
    assert b"1 servers leave it" in client.get(f"{url}/forget/").content
    client.post(f"{url}/forget/")
    assert not PrivateNetwork.objects.existing().exists()
    assert client.get(f"{url}/change/").status_code == 302


def test_a_server_is_found_by_its_private_address(client: Client) -> None:
    attach_to_network(ready("web-1"), mesh.network())
    assert b"web-1" in client.get("/admin/vms/vm/?q=10.0.0.2").content
    assert b"web-1" not in client.get("/admin/vms/vm/?q=10.0.0.3").content


def test_who_may_only_look_changes_no_network() -> None:
    network = mesh.network()
    guest = User.objects.create_user("guest", is_staff=True)
    guest.user_permissions.add(Permission.objects.get(codename="view_privatenetwork"))
    client = Client()
    client.force_login(guest)
    url = f"/admin/networks/privatenetwork/{network.pk}"
    assert b"Attach a server" not in client.get(f"{url}/change/").content
    for form in ("attach", "subnet", "route", "settings", "protect", "forget"):
        assert client.post(f"{url}/{form}/", {"name": "x"}).status_code == 403
    network.refresh_from_db()
    assert network.name == "backend"


def test_a_revoked_host_says_what_that_means(client: Client) -> None:
    host = Host.objects.get()
    page = client.get(f"/admin/cloud/host/{host.pk}/change/").content.decode()
    assert "100.64.0.2" in page
    with transaction.atomic():
        revoke_host(host)
    page = client.get(f"/admin/cloud/host/{host.pk}/change/").content.decode()
    assert "This host is revoked" in page
    assert "revoked" in client.get("/admin/cloud/host/").content.decode()
