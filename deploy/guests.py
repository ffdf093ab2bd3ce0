"""From a running cloud to a first server that answers SSH.

Last part of `deploy.start`: the images, the project's token, an SSH key, the first server,
made through the API with the contract's official client as any user would.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

import httpx
from hcloud import APIException, Client
from hcloud.images import Image
from hcloud.server_types import ServerType
from hcloud.servers import BoundServer
from hcloud.ssh_keys import BoundSSHKey

from cloud import shell
from cloud.errors import CumuletError
from deploy import images
from deploy.cloud import Cloud
from deploy.images.image import DESCRIPTION
from deploy.state import Instance, make_private, write_private

PROJECT = "default"
FIRST = "first"
_KEY = "cumulet"
_IMAGE_SECONDS = 60.0


class Guest(StrEnum):
    """What the first server runs."""

    DEBIAN = "debian"
    MICRO = "micro"
    NONE = "none"


@dataclass(frozen=True)
class Kind:
    """What the first server is made of; `seconds` until its SSH answers, at most."""

    image: str
    server_type: str
    user: str
    seconds: float


KINDS = {
    Guest.DEBIAN: Kind("debian-12", "small", "root", 420.0),
    Guest.MICRO: Kind("micro", "nano", "root", 60.0),
}


class GuestFailed(CumuletError):
    """The first server did not become what was asked for."""

    code: ClassVar[str] = "first_server_failed"


def choose(wanted: Guest | None) -> tuple[Guest, list[str]]:
    """What the first server runs, and why it is not Debian where nobody asked for another one."""
    if wanted is not None:
        return wanted, []
    if images.obtainable("debian", images.default_cache()):
        return Guest.DEBIAN, []
    return Guest.MICRO, [
        "no Debian image, whose bootloader is installed through a mount: `sudo deploy/image debian`"
        " makes one for every user of this machine; until then the first server is a micro guest"
    ]


def build_images(guest: Guest, progress: Callable[[str], None]) -> list[Path]:
    """Manifests of the images that the cloud offers, from the cache or built now.

    The micro image costs seconds and is always there; Debian's takes a minute or two.
    """
    wanted = {
        Guest.DEBIAN: ("micro", "debian"),
        Guest.MICRO: ("micro",),
        Guest.NONE: ("micro",),
    }[guest]
    cache = images.default_cache()
    built = [images.build(name, cache, progress) for name in wanted]
    return [image.disk.file.with_name(DESCRIPTION) for image in built]


def register(cloud: Cloud, manifests: list[Path]) -> None:
    cloud.manage([["image_add", str(path)] for path in manifests])


def ensure_token(cloud: Cloud) -> str:
    """The project's API token. A new one where ours is gone or was revoked."""
    path = cloud.instance.state / "token"
    if path.exists() and _accepted(cloud.instance, path.read_text().strip()):
        return path.read_text().strip()
    name = f"deploy-up-{time.time_ns():x}"
    token = cloud.manage([["token_add", PROJECT, name, "--operator"]])[0].split()[-1]
    write_private(path, token + "\n")
    return token


def ensure_ssh_key(instance: Instance) -> Path:
    """The private key whose public half every server of `deploy/up` gets."""
    directory = instance.state / "ssh"
    make_private(directory)
    key = directory / "id_ed25519"
    if not key.exists():
        argv: list[str | Path] = [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "cumulet",
            "-f",
            key,
        ]
        shell.run(argv, timeout=30)
    return key


def wait_for_images(instance: Instance, api: Client, count: int) -> None:
    """Wait until some host has checked each of `count` images: servers can be made from them."""
    deadline = time.monotonic() + _IMAGE_SECONDS
    while sum(image.status == "available" for image in api.images.get_all()) < count:
        if time.monotonic() > deadline:
            raise GuestFailed(
                "the cloud is up, but no host could fetch its images: the hosts' pages in"
                f" {instance.web_url}/admin/cloud/host/ say why, and fetch.log in"
                f" {instance.data}/hosts/*/log; then run deploy/up again"
            )
        time.sleep(0.2)


def client(instance: Instance, token: str) -> Client:
    return Client(token, api_endpoint=instance.api_url, poll_interval=0.25, timeout=30)


def ensure_first_server(instance: Instance, api: Client, kind: Kind) -> tuple[BoundServer, bool]:
    """The server named `first`, and whether it was made just now."""
    found = api.servers.get_by_name(FIRST)
    if found is not None:
        return found, False
    try:
        answer = api.servers.create(
            name=FIRST,
            server_type=ServerType(name=kind.server_type),
            image=Image(name=kind.image),
            ssh_keys=[ensure_registered_key(instance, api)],
        )
        answer.action.wait_until_finished(max_retries=480)
    except APIException as error:
        raise GuestFailed(f"{FIRST}: {error}. See {instance.log}") from error
    answer.server.reload()
    return answer.server, True


def address(server: BoundServer) -> str:
    """The public IPv4 address; final from the moment the server exists."""
    net = server.public_net
    if net is None or net.ipv4 is None or not net.ipv4.ip:
        raise GuestFailed(f"{server.name} has no public IPv4 address")
    return net.ipv4.ip


def ssh(instance: Instance, way: str, command: str, *, timeout: float = 30.0) -> shell.Result:
    """Run a command in a guest; exit code 255 means that SSH itself failed.

    `way`: the guest's address or its name in the configuration, or a URI such as
    "ssh://root@192.0.2.21:30000".
    """
    argv: list[str | Path] = ["ssh", "-F", instance.state / "ssh_config", "-o", "BatchMode=yes"]
    return shell.run([*argv, way, command], timeout=timeout, ok=range(256))


def wait_for_ssh(instance: Instance, way: str, *, seconds: float) -> str:
    """Wait until the guest lets us in; answers its host name and kernel."""
    deadline = time.monotonic() + seconds
    said = "no attempt was made"
    while time.monotonic() < deadline:
        try:
            result = ssh(instance, way, "uname -n -r", timeout=20)
        except shell.CommandTimeout as error:
            said = error.message
            continue
        if result.code == 0:
            return result.stdout.strip()
        said = result.stderr.strip()
        time.sleep(0.5)
    raise GuestFailed(
        f"no SSH login on {way} within {seconds:.0f} s ({said}): look at the console log of the"
        f" server below {instance.data}/hosts, and at {instance.log}"
    )


def ensure_registered_key(instance: Instance, api: Client) -> BoundSSHKey:
    public = ensure_ssh_key(instance).with_suffix(".pub").read_text().strip()
    for key in api.ssh_keys.get_all():
        if (key.public_key or "").split()[:2] == public.split()[:2]:
            return key
    return api.ssh_keys.create(name=_KEY, public_key=public)


def _accepted(instance: Instance, token: str) -> bool:
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.get(f"{instance.api_url}/locations", headers=headers, timeout=10)
    return answer.status_code == 200
