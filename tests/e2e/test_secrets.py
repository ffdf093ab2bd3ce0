"""Secrets are planted wherever people and programs hand some in, and no log knows one of them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import httpx
import pytest

from cloud import shell
from deploy import control, guests
from deploy.state import Instance
from tests.e2e.evidence import lines_by_request
from tests.e2e.world import World, until

pytestmark = pytest.mark.trace

# Celery says it past all logging, from its signal handler.
_FAREWELL = "worker: Warm shutdown (MainProcess)"


@pytest.fixture
def marker() -> str:
    """A word that stands nowhere else."""
    return f"planted{secrets.token_hex(8)}"


@pytest.fixture
def api(world: World) -> Iterator[httpx.Client]:
    token = guests.ensure_token(world.cloud)
    headers = {"Authorization": f"Bearer {token}", "X-Request-ID": "planting"}
    with httpx.Client(base_url=world.cloud.instance.api_url, headers=headers, timeout=30) as http:
        yield http


def everything_logged(instance: Instance) -> str:
    """All that any program of the cloud wrote, on control and on every host."""
    places = [instance.log, instance.data / "hosts"]
    return "\n".join(
        path.read_text(errors="replace")
        for place in places
        for path in place.rglob("*.log*")
        if path.is_file()
    )


def test_no_log_holds_a_planted_secret(world: World, api: httpx.Client, marker: str) -> None:
    instance = world.cloud.instance
    password, user_data = plant(world, api, marker)
    provoke(world, api, marker)
    written = everything_logged(instance)
    assert "planting" in written  # these are the right logs
    assert marker not in written
    known = [
        password,
        user_data,
        guests.ensure_token(world.cloud),
        instance.passwords.admin,
        instance.passwords.database,
        instance.passwords.broker,
        instance.passwords.flower,
        instance.passwords.secret_key,
        *(bundle_password(world, host.name) for host in world.cloud.hosts),
    ]
    assert not [secret for secret in known if secret in written]


def plant(world: World, api: httpx.Client, marker: str) -> tuple[str, str]:
    """A server with a root password, a private key and a marked word in its user data."""
    user_data = f"#cloud-config\nssh_keys:\n  ed25519_private: |\n    {pem(marker)}\n# {marker}\n"
    body = {"name": "keeper", "server_type": "nano", "image": "micro", "user_data": user_data}
    answer = api.post("servers", json=body)
    assert answer.status_code == 201, answer.text
    server = world.api.servers.get_by_id(answer.json()["server"]["id"])
    world.made.append(server)
    world.wait_for_status(server, "running", seconds=60)
    return str(answer.json()["root_password"]), user_data.splitlines()[3].strip()


def provoke(world: World, api: httpx.Client, marker: str) -> None:
    """Errors of every kind that have something secret near them."""
    instance = world.cloud.instance
    assert api.get("servers", headers={"Authorization": f"Bearer {marker}"}).status_code == 401
    assert api.post("servers", content=f'{{"user_data": "{marker}",').status_code == 400
    assert api.post("servers", json={"name": "x y", "user_data": marker}).status_code == 422
    twice = {"name": "keeper", "server_type": "nano", "image": "micro", "user_data": marker}
    assert api.post("servers", json=twice).status_code == 409
    bad_key = {"name": "key", "public_key": pem(marker)}
    assert api.post("ssh_keys", json=bad_key).status_code == 422
    login = httpx.Client(base_url=instance.web_url, timeout=30)
    login.get("/admin/login/")
    form = {"username": control.ADMIN, "password": marker}
    form["csrfmiddlewaretoken"] = login.cookies["csrftoken"]
    assert login.post("/admin/login/", data=form).status_code == 200
    login.close()
    # A host's agent chokes on a document with a secret in it.
    send_broken_document(world, marker)
    agent = instance.log / f"{world.cloud.hosts[0].agent}.log"
    until(lambda: "MalformedDocument" in agent.read_text(), "the agent complained", seconds=60)


def send_broken_document(world: World, marker: str) -> None:
    script = (
        "from cloud.celery import hint;"
        f"hint('host.h1', 'vms.ensure', {{'version': 1, 'user_data': '{marker}',"
        f" 'root_password_hash': '{marker}'}}, summary='broken')"
    )
    world.cloud.manage([["shell", "-c", script]])


def pem(marker: str) -> str:
    return f"-----BEGIN OPENSSH PRIVATE KEY----- {marker} -----END OPENSSH PRIVATE KEY-----"


def bundle_password(world: World, host: str) -> str:
    url = json.loads(control.bundle(world.cloud.instance, host).read_text())["broker_url"]
    return str(httpx.URL(url).password)


def test_every_line_of_ours_is_one_json_object(world: World, api: httpx.Client) -> None:
    """Web, control, beat, Flower, agents and monitors: no line in another form."""
    api.get("servers")
    instance = world.cloud.instance
    ours = ("web", "control", "beat", "flower", "agent-", "monitor-")
    odd = [
        f"{path.name}: {line}"
        for path in instance.log.glob("*.log")
        if path.name.startswith(ours)
        for line in path.read_text(errors="replace").splitlines()
        if line.strip() and line != _FAREWELL and not is_json_object(line)
    ]
    assert not odd
    assert lines_by_request(instance)["planting"]


def is_json_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def test_a_guest_that_makes_qemu_complain_is_heard_in_the_hosts_log(world: World) -> None:
    """QEMU's own words come in the common format, with the server they are about."""
    server = world.create("grumbler")
    host = world.host_of(server)
    with (host.state / "vms" / str(server.id) / "qemu.log").open("a") as log:
        log.write("qemu-system-x86_64: something is odd\n")
    agent = world.cloud.instance.log / f"{host.agent}.log"
    world.api.servers.power_off(server)
    world.wait_for_status(server, "off")
    (line,) = (text for text in agent.read_text().splitlines() if "something is odd" in text)
    facts = json.loads(line)
    assert (facts["event"], facts["vm"], facts["host"]) == ("qemu", server.id, host.name)
    assert facts["request_id"]
    listing = shell.run(["grep", "-c", "something is odd", agent], timeout=10).stdout
    assert listing.strip() == "1"
