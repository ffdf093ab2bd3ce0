"""The whole cloud of a session; every test ends with its servers gone and no trace of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy import guests, logins
from deploy.cloud import Cloud
from deploy.guests import Guest
from deploy.hosts import LabHost
from tests.e2e.world import World, until


@pytest.fixture(scope="session")
def shared_world(cloud: Cloud) -> World:
    token = guests.ensure_token(cloud)
    manifests = guests.build_images(Guest.MICRO, print)
    guests.register(cloud, manifests)
    logins.write_ssh_config(cloud.instance)
    cloud.wait_for_hosts(token)
    api = guests.client(cloud.instance, token)
    guests.wait_for_images(cloud.instance, api, len(manifests))
    return World(cloud, api, guests.ensure_registered_key(cloud.instance, api))


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """The cloud with all hosts at work; afterwards no server and nothing of one is left."""
    yield shared_world
    programs = (program for host in shared_world.cloud.hosts for program in _programs(host))
    shared_world.cloud.supervisor.start(*programs)
    shared_world.delete_all()
    until(lambda: not shared_world.leftovers(), "hosts are clean", seconds=60)


def _programs(host: LabHost) -> tuple[str, str]:
    return host.agent, host.monitor
