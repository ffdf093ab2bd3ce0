"""Hosts become bridged and routed again, as by an operator, and servers with pages of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
from hcloud.servers import BoundServer

from deploy import guests
from networks.host.bridge_plan import BRIDGE
from tests.e2e.world import World, until

# The hostname as page, an echo on port 7; both families.
SITE = """#!/bin/sh
mkdir /tmp/www && hostname >/tmp/www/index.html
httpd -p 80 -h /tmp/www
httpd -p 8080 -h /tmp/www
nc -ll -p 7 -e cat &
"""


def site(world: World, name: str, *, more: str = "", **order: Any) -> BoundServer:
    """A server with a page of its own, not yet up. `more`: for its script."""
    return world.create(name, user_data=SITE + more, wait=False, **order)


def addresses(server: BoundServer) -> tuple[str, str]:
    """IPv4, and the first address of its IPv6 network."""
    net = server.public_net
    assert net
    assert net.ipv4
    assert net.ipv6
    return str(net.ipv4.ip), first(str(net.ipv6.ip))


def first(network: str) -> str:
    """The address that a guest takes of its /64."""
    return f"{network.removesuffix('/64')}1"


@contextmanager
def bridged(world: World) -> Iterator[None]:
    """All hosts of the cloud, meanwhile."""
    try:
        bridge(world, on=True)
        yield
    finally:
        bridge(world, on=False)


def bridge(world: World, *, on: bool) -> None:
    """The agents and monitors start with another setting; guests go on running."""
    cloud = world.cloud
    for host in cloud.hosts:
        cloud.supervisor.apply(replace(host, bridge=on).programs(cloud.release))
        cloud.supervisor.start(host.agent, host.monitor)
    mode = "bridged" if on else "routed"
    for host in cloud.hosts:
        until(
            lambda host=host: (BRIDGE in world.links(host)) is on,
            f"{host.name} is {mode}",
            seconds=60,
        )
    until(lambda: modes(world) == {mode}, "control knows", seconds=60)


def modes(world: World) -> set[str]:
    return {host["network_mode"] for host in operator(world, "hosts")["hosts"]}


def operator(world: World, path: str) -> Any:
    """An answer that only operators get."""
    token = (world.cloud.instance.state / "token").read_text().strip()
    answer = httpx.get(
        f"{world.cloud.instance.api_url}/{path}",
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    answer.raise_for_status()
    return answer.json()


def project(world: World, name: str, *pools: list[str]) -> World:
    """A project with bridged pools of its own. They stay, as their addresses have a history."""
    token = world.cloud.manage([["token_add", name, "test"]])[0].split()[-1]
    for number, pool in enumerate(pools):
        kind = ("--location", "lab", "--owner", name, "--mode", "bridged")
        world.cloud.manage([["pool_add", f"{name}-{number}", *pool, *kind]])
    api = guests.client(world.cloud.instance, token)
    key = guests.ensure_registered_key(world.cloud.instance, api)
    return World(world.cloud, api, key)
