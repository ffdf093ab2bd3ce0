"""The whole cloud of a session; every test ends with its servers gone and no trace of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import guests, logins
from deploy.cloud import Cloud
from deploy.guests import Guest
from deploy.hosts import DESK, LabHost
from tests.e2e.person import Person, living
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
def lab_world(shared_world: World) -> Iterator[World]:
    """The cloud with all hosts at work; afterwards no server and nothing of one is left."""
    yield from _in_order(shared_world)


@pytest.fixture
def world(lab_world: World) -> World:
    return lab_world


@pytest.fixture
def desk(shared_world: World, rootless_cloud: Cloud) -> Iterator[World]:
    """The same with hosts that have no privilege, where servers are made unless told otherwise."""
    rootless_cloud.wait_for_hosts(guests.ensure_token(rootless_cloud))
    yield from _in_order(World(rootless_cloud, shared_world.api, shared_world.key, location=DESK))


@pytest.fixture(params=["lab_world", pytest.param("desk", marks=pytest.mark.rootless)])
def any_world(request: pytest.FixtureRequest) -> World:
    """What holds for servers on hosts of both kinds."""
    found: World = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Gone afterwards, with everything that belongs to it."""
    with living(tmp_path) as person:
        yield person


def _in_order(world: World) -> Iterator[World]:
    yield world
    programs = (program for host in world.cloud.hosts for program in _programs(host))
    world.cloud.supervisor.start(*programs)
    world.delete_all()
    until(lambda: not world.leftovers(), "hosts are clean", seconds=60)


def _programs(host: LabHost) -> tuple[str, str]:
    return host.agent, host.monitor
