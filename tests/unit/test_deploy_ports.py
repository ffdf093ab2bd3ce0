"""No two clouds of one machine choose the same ports, however close together they start."""

from __future__ import annotations

import msgspec
import pytest

from deploy import ports


def test_no_two_services_share_a_port() -> None:
    chosen = msgspec.structs.astuple(ports.choose_ports())
    assert len(set(chosen)) == len(chosen)


def test_a_port_that_nothing_listens_on_yet_is_chosen_once() -> None:
    port = ports.choose_port()
    assert ports.choose_port(preferred=port) != port
    assert ports.keep(port)


def test_what_another_command_chose_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    port = ports.choose_port()
    monkeypatch.setattr(ports, "_claims", {})  # as in another process: the socket stays bound
    assert not ports.keep(port)
