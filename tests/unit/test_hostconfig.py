"""A host's settings come from its bundle and its environment; what is wrong is named."""

from __future__ import annotations

import json
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from cloud.hostconfig import BadBundle, HostConfig


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    bundle = tmp_path / "bundle.json"
    bundle.write_text(json.dumps({"version": 1, "host": "h1", "broker_url": "amqp://h1:x@b/c"}))
    return {"CUMULET_BUNDLE": str(bundle)}


def test_the_bundle_alone_is_enough(env: dict[str, str]) -> None:
    config = HostConfig.from_environment(env, root=True)
    assert (config.name, config.broker_url) == ("h1", "amqp://h1:x@b/c")
    assert config.state_dir == Path("/var/lib/cumulet/hosts/h1")
    assert config.protected is None


def test_a_user_has_a_host_below_the_own_home(tmp_path: Path) -> None:
    place = tmp_path / ".config/cumulet/bundle.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"version": 1, "host": "h1", "broker_url": "amqp://h1:x@b/c"}))
    env = {"HOME": str(tmp_path)}
    config = HostConfig.from_environment(env, root=False)
    assert config.state_dir == tmp_path / ".local/share/cumulet/hosts/h1"
    assert config.run_dir == config.state_dir / "run"
    env["XDG_RUNTIME_DIR"] = "/run/user/1000"
    config = HostConfig.from_environment(env, root=False)
    assert config.run_dir == Path("/run/user/1000/cumulet/h1")


def test_networks_to_protect_are_read_as_a_list(env: dict[str, str]) -> None:
    env["CUMULET_HOST_PROTECTED"] = "10.0.0.0/8 2001:db8::/64"
    config = HostConfig.from_environment(env)
    assert config.protected == (IPv4Network("10.0.0.0/8"), IPv6Network("2001:db8::/64"))


def test_an_empty_list_protects_nothing(env: dict[str, str]) -> None:
    env["CUMULET_HOST_PROTECTED"] = ""
    assert HostConfig.from_environment(env).protected == ()


@pytest.mark.parametrize(("text", "bridge"), [("on", True), ("off", False), ("", False)])
def test_the_uplink_is_bridged_only_if_the_operator_says_so(
    env: dict[str, str], text: str, bridge: bool
) -> None:
    env["CUMULET_HOST_BRIDGE"] = text
    assert HostConfig.from_environment(env).bridge is bridge


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CUMULET_HOST_PROTECTED", "10.0.0.1/8"),
        ("CUMULET_HOST_CORES", "0"),
        ("CUMULET_HOST_MEMORY_MB", "much"),
        ("CUMULET_HOST_METRICS", "localhost:9723"),
        ("CUMULET_HOST_METRICS", "127.0.0.1"),
        ("CUMULET_HOST_METRICS", "127.0.0.1:0"),
        ("CUMULET_HOST_BRIDGE", "yes"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(env: dict[str, str], name: str, value: str) -> None:
    env[name] = value
    with pytest.raises(BadBundle, match=name):
        HostConfig.from_environment(env)


def test_a_missing_bundle_says_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match="host_add"):
        HostConfig.from_environment({"CUMULET_BUNDLE": str(tmp_path / "none.json")})


@pytest.mark.parametrize(
    ("text", "address", "is_local"),
    [
        (None, "127.0.0.1:9723", True),
        ("", "127.0.0.1:9723", True),
        ("[::1]:9000", "[::1]:9000", True),
        ("0.0.0.0:9723", "0.0.0.0:9723", False),
        ("[2001:db8::1]:9723", "[2001:db8::1]:9723", False),
    ],
)
def test_metrics_are_served_where_it_is_said_or_on_loopback(
    env: dict[str, str], text: str | None, address: str, is_local: bool
) -> None:
    if text is not None:
        env["CUMULET_HOST_METRICS"] = text
    endpoint = HostConfig.from_environment(env).metrics
    assert endpoint is not None
    assert (str(endpoint), endpoint.is_local, endpoint.token) == (address, is_local, "")


def test_metrics_can_be_switched_off(env: dict[str, str]) -> None:
    env["CUMULET_HOST_METRICS"] = "off"
    assert HostConfig.from_environment(env).metrics is None


def test_the_token_of_the_metrics_is_read(env: dict[str, str]) -> None:
    env["CUMULET_HOST_METRICS_TOKEN"] = "s3cret"
    endpoint = HostConfig.from_environment(env).metrics
    assert endpoint is not None
    assert endpoint.token == "s3cret"


def test_a_host_is_called_by_others_unless_it_is_said_to_be_behind_nat(
    env: dict[str, str],
) -> None:
    assert not HostConfig.from_environment(env).nat
    env["CUMULET_HOST_NAT"] = "on"
    assert HostConfig.from_environment(env).nat


def test_a_container_names_its_own_start(env: dict[str, str]) -> None:
    assert HostConfig.from_environment(env).boot_id is None
    env["CUMULET_HOST_BOOT_ID"] = "11111111-2222-3333-4444-555555555555"
    assert HostConfig.from_environment(env).boot_id == env["CUMULET_HOST_BOOT_ID"]
    env["CUMULET_HOST_BOOT_ID"] = "today"
    with pytest.raises(BadBundle, match="no UUID"):
        HostConfig.from_environment(env)
