"""The browsable API, for those who are logged in to the admin."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from cloud.models import Project
from tests import factories as make
from vms.actions import create_vm
from vms.models import VM

HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def staff(lab: None) -> Client:
    """A browser in which an administrator is logged in; CSRF is checked as in real life."""
    make.project()
    user = User.objects.create_superuser("admin", password="not in use")
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    return browser


def test_pages_show_lists_and_objects(staff: Client) -> None:
    vm = create_vm(make.project(), make.order()).vm
    for path in ("servers", f"servers/{vm.pk}", "images", "actions", "hosts", "nothing"):
        page = staff.get(f"/v1/{path}", headers=HTML)
        assert page["Content-Type"].startswith("text/html")
        assert page.status_code == (404 if path == "nothing" else 200)
    page = staff.get("/v1/servers", headers=HTML).content
    assert b"web-1" in page
    assert b"&quot;server_type&quot;: null" in page, "the form shows what may be sent"
    assert b"admin in project default" in page


def test_a_stranger_is_shown_the_way_to_log_in(lab: None) -> None:
    page = Client().get("/v1/servers?name=a", headers=HTML)
    assert page.status_code == 401
    assert b"/admin/login/?next=/v1/servers%3Fname%3Da" in page.content


def test_a_script_without_html_gets_json(staff: Client) -> None:
    assert staff.get("/v1/servers").json()["servers"] == []


def test_a_form_on_the_page_writes_with_its_csrf_token(staff: Client) -> None:
    body = {"name": "web-1", "server_type": "nano", "image": "micro"}
    assert _post(staff, "/v1/servers", body).status_code == 403
    page = staff.get("/v1/servers", headers=HTML).content.decode()
    token = re.search(r'"csrfToken": "([^"]+)"|csrfToken: "([^"]+)"', page)
    assert token
    sent = {"X-CSRFToken": token[1] or token[2]}
    assert _post(staff, "/v1/servers", body, sent).status_code == 201
    assert VM.objects.get().project == make.project()


def test_the_project_is_chosen_once_and_kept(staff: Client) -> None:
    other = Project.objects.create(name="other")
    create_vm(other, make.order("theirs"))
    assert staff.get("/v1/servers").json()["servers"] == []
    assert staff.get("/v1/servers?project=other").json()["servers"][0]["name"] == "theirs"
    assert staff.get("/v1/servers").json()["servers"][0]["name"] == "theirs"
    assert staff.get("/v1/servers?project=none").status_code == 401


@pytest.fixture
def helper(lab: None) -> tuple[Client, User]:
    """A browser in which somebody of the staff without any permission is logged in."""
    make.project()
    user = User.objects.create_user("helper", is_staff=True)
    browser = Client()
    browser.force_login(user)
    return browser, user


def test_staff_without_a_permission_sees_and_does_nothing(helper: tuple[Client, User]) -> None:
    browser, _ = helper
    for path in ("servers", "hosts", "actions", "audit", "ssh_keys", "networks", "images"):
        error = browser.get(f"/v1/{path}").json()["error"]
        assert error["code"] == "forbidden", path
    assert "this needs the permission vms.view_vm" in browser.get("/v1/servers").content.decode()


@pytest.mark.parametrize(
    ("permission", "allowed"),
    [
        ("view_vm", {"GET one"}),
        ("add_vm", {"POST"}),
        ("change_vm", {"PUT", "POST action"}),
        ("delete_vm", {"DELETE"}),
    ],
)
def test_staff_may_do_what_the_admin_lets_them(
    helper: tuple[Client, User], permission: str, allowed: set[str]
) -> None:
    browser, user = helper
    user.user_permissions.add(Permission.objects.get(codename=permission))
    vm = create_vm(make.project(), make.order("there")).vm
    json = {"content_type": "application/json"}
    one = f"/v1/servers/{vm.pk}"
    new = {"name": "web-1", "server_type": "nano", "image": "micro"}
    answers = {
        "GET one": browser.get(one),
        "PUT": browser.put(one, {"labels": {"a": "b"}}, **json),
        "POST": browser.post("/v1/servers", new, **json),
        "POST action": browser.post(f"{one}/actions/poweroff", {}, **json),
        "DELETE": browser.delete(one),
    }
    assert {name for name, answer in answers.items() if answer.status_code != 403} == allowed


def test_a_page_offers_no_form_to_who_may_only_look(helper: tuple[Client, User]) -> None:
    browser, user = helper
    user.user_permissions.add(Permission.objects.get(codename="view_vm"))
    page = browser.get("/v1/servers", headers=HTML)
    assert page.status_code == 200
    assert b"server_type&quot;: null" not in page.content


def test_who_is_not_staff_has_no_business_here(lab: None) -> None:
    browser = Client()
    browser.force_login(User.objects.create_user("visitor"))
    assert browser.get("/v1/servers").status_code == 401


def _post(
    browser: Client, path: str, body: dict[str, str], headers: dict[str, str] | None = None
) -> object:
    return browser.post(path, body, content_type="application/json", headers=headers)
