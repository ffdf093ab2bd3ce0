"""A host without any privilege."""

from __future__ import annotations

import pytest

from tests.host.rootless import RootlessWorld

pytestmark = pytest.mark.rootless


def test_a_guest_answers_ssh_on_a_forwarded_port(rootless: RootlessWorld) -> None:
    spec = rootless.boot()
    assert rootless.ssh(spec, "hostname").stdout.strip() == "web-1"
