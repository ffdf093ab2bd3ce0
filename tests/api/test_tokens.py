"""Who may ask, and that projects do not see each other."""

from __future__ import annotations

import pytest
from django.utils import timezone

from cloud.models import ApiToken, Project
from cloud.tokens import issue_token, revoke_token
from tests import factories as make
from tests.api.conftest import Api, api_of
from vms.actions import create_vm


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Bearer " + "0" * 64,
        "Bearer ä",
        "Token " + "0" * 64,
    ],
)
def test_without_a_token_in_use_nothing_is_answered(lab: None, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path in ("servers", "locations", "servers/1", "volumes"):
        answer = Api(token=None).get(path, **headers)
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_revoked_token_ends_at_once(lab: None) -> None:
    secret = issue_token(make.project(), "one")
    assert Api(secret).get("servers").status == 200
    revoke_token(ApiToken.objects.get())
    assert Api(secret).get("servers").status == 401


def test_a_token_has_the_length_that_clients_insist_on_and_is_not_stored(lab: None) -> None:
    secret = issue_token(make.project(), "one")
    assert len(secret) == 64
    assert not ApiToken.objects.filter(digest=secret).exists()


def test_the_use_of_a_token_is_noted(lab: None) -> None:
    api = api_of(make.project())
    assert ApiToken.objects.get().last_used is None
    before = timezone.now()
    api.get("servers")
    used = ApiToken.objects.get().last_used
    assert used is not None
    assert used >= before


def test_a_read_only_token_reads_and_writes_nothing(lab: None) -> None:
    vm = create_vm(make.project(), make.order()).vm
    api = api_of(make.project(), read_only=True)
    assert api.get(f"servers/{vm.pk}").status == 200
    for method, path in (
        ("POST", "servers"),
        ("PUT", f"servers/{vm.pk}"),
        ("DELETE", f"servers/{vm.pk}"),
        ("POST", f"servers/{vm.pk}/actions/poweroff"),
        ("POST", "networks"),
    ):
        answer = api.ask(method, path, {})
        assert (answer.status, answer.code) == (401, "token_readonly"), path


def test_what_belongs_to_another_project_does_not_exist(api: Api) -> None:
    ordered = create_vm(make.project(), make.order())
    stranger = api_of(Project.objects.create(name="stranger"))
    key = api.post("ssh_keys", {"name": "k", "public_key": make.SSH_KEY}).json["ssh_key"]["id"]
    server = f"servers/{ordered.vm.pk}"
    for method, path in (
        ("GET", server),
        ("PUT", server),
        ("DELETE", server),
        ("POST", f"{server}/actions/poweroff"),
        ("POST", f"{server}/actions/rebuild"),
        ("POST", f"{server}/actions/change_protection"),
        ("GET", f"{server}/actions"),
        ("GET", f"{server}/actions/{ordered.action.pk}"),
        ("GET", f"servers/actions/{ordered.action.pk}"),
        ("GET", f"actions/{ordered.action.pk}"),
        ("GET", f"ssh_keys/{key}"),
        ("PUT", f"ssh_keys/{key}"),
        ("DELETE", f"ssh_keys/{key}"),
    ):
        answer = stranger.ask(method, path, {})
        assert (answer.status, answer.code) == (404, "not_found"), (method, path)
    for path in ("servers", "ssh_keys", "actions", "servers/actions"):
        assert stranger.get(path).json[path.split("/")[-1]] == []
    assert stranger.get(f"actions?id={ordered.action.pk}").json == {"actions": []}
    assert api.get(server).status == 200


def test_keys_and_images_of_another_project_cannot_be_used(api: Api, order: dict[str, str]) -> None:
    other = Project.objects.create(name="other")
    theirs = make.image("theirs", project=other, sha256="cd" * 32)
    answer = api.post("servers", {**order, "image": theirs.pk})
    assert (answer.status, answer.fields) == (422, ["image"])
    key = api_of(other).post("ssh_keys", {"name": "k", "public_key": make.SSH_KEY}).json["ssh_key"]
    answer = api.post("servers", {**order, "ssh_keys": [key["id"]]})
    assert (answer.status, answer.fields) == (422, ["ssh_keys"])
