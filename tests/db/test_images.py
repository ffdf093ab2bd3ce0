"""Base images come and go without harm to the servers made from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud.errors import InvalidInput, Protected
from tests import factories as make
from vms.images import Manifest, read_manifest, register_image, retire_image
from vms.models import Image

pytestmark = pytest.mark.django_db


def manifest(sha256: str = "ab" * 32, **changes: Any) -> Manifest:
    known = Manifest(
        name="debian",
        description="Debian",
        os_flavor="debian",
        os_version="12",
        format="qcow2",
        virtual_bytes=2**30,
        disk={"url": "http://192.0.2.2/d.qcow2", "sha256": sha256, "bytes": 10},
    )
    return replace(known, **changes)


def test_registering_the_same_content_twice_changes_nothing() -> None:
    first, new = register_image(manifest())
    again, new_again = register_image(manifest())
    assert (new, new_again, again.pk) == (True, False, first.pk)


def test_new_content_replaces_the_image_and_servers_keep_theirs() -> None:
    make.host()
    make.pool()
    old, _ = register_image(manifest())
    Image.objects.update(status=Image.Status.AVAILABLE)
    old.refresh_from_db()
    vm = make.ordered(image=old).vm
    new, _ = register_image(manifest("cd" * 32))
    vm.refresh_from_db()
    assert vm.image_id == old.pk != new.pk
    assert list(Image.objects.visible_to(vm.project_id)) == [new]


@pytest.mark.parametrize(
    "changes",
    [
        {"boot_files": {"kernel": {"url": "http://192.0.2.2/k", "sha256": "ef" * 32, "bytes": 5}}},
        {"cmdline": "quiet"},
    ],
    ids=list,
)
def test_another_kernel_or_command_line_is_new_content(changes: dict[str, Any]) -> None:
    old, _ = register_image(manifest())
    new, is_new = register_image(manifest(**changes))
    assert is_new
    assert new.pk != old.pk


@pytest.mark.parametrize(
    "changes",
    [
        {"disk": {"url": "ftp://192.0.2.2/d.qcow2", "sha256": "cd" * 32, "bytes": 10}},
        {"cmdline": "console=\n"},
    ],
    ids=list,
)
def test_what_hosts_would_refuse_is_refused_and_replaces_nothing(changes: dict[str, Any]) -> None:
    known, _ = register_image(manifest())
    with pytest.raises(InvalidInput):
        register_image(manifest(**changes))
    assert list(Image.objects.filter(deleted_at=None)) == [known]


def test_a_protected_image_stays() -> None:
    image, _ = register_image(manifest())
    Image.objects.update(delete_protection=True)
    image.refresh_from_db()
    with pytest.raises(Protected):
        retire_image(image)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x", "disk": 3}'])
def test_a_manifest_that_is_not_one_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "image.json"
    path.write_text(text)
    with pytest.raises(InvalidInput):
        read_manifest(path)
