"""A real host for each test: namespace, directories, QEMU. Whatever a test started is ended."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cloud import shell
from cloud.authority import Authority
from cloud.hostconfig import HostConfig
from deploy import accounts, images, lab
from deploy.lab import Lab
from networks.host import dhcp, switches
from networks.host.switches import Switch
from networks.spec import NetworkRemoval
from tests.host.cabled_cloud import identify
from tests.host.rootless import RootlessWorld, rootless_world
from tests.host.world import World, image_spec
from vms.host import netstore, qemu, store
from vms.host.host import Host
from vms.spec import ImageSpec

# Other users pass through: /tmp of a test session is closed to them, and its paths are long.
BASE = Path("/var/tmp")


@pytest.fixture(scope="session")
def places() -> Iterator[Path]:
    """A directory of this session that QEMU's user can reach."""
    accounts.ensure_users()
    path = BASE / f"cu-{secrets.token_hex(3)}"
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


@contextmanager
def a_lab() -> Iterator[Lab]:
    made = Lab(secrets.token_hex(3))
    made.ensure(1)
    yield made
    made.remove()


@pytest.fixture(scope="session")
def host_lab() -> Iterator[Lab]:
    with a_lab() as made:
        yield made


@pytest.fixture
def own_lab() -> Iterator[Lab]:
    """For a test that takes its uplink apart."""
    with a_lab() as made:
        yield made


@pytest.fixture(scope="session")
def micro() -> ImageSpec:
    return image_spec(images.build("micro", images.default_cache(), print))


@pytest.fixture(scope="session")
def image_store(places: Path, micro: ImageSpec) -> Path:
    """The micro guest's files under their checksums, for hosts to link to."""
    directory = places / "images"
    directory.mkdir()
    for file in micro.files:
        target = directory / file.sha256
        shutil.copyfile(file.url.removeprefix("file://"), target)
        target.chmod(0o444)
    return directory


@pytest.fixture(scope="session")
def ssh_key(places: Path) -> Path:
    key = places / "key"
    shell.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], timeout=30)
    return key


@pytest.fixture
def bare_world(places: Path, host_lab: Lab, micro: ImageSpec, ssh_key: Path) -> Iterator[World]:
    """A host without any image."""
    with opened(World(a_host(places), host_lab, micro, ssh_key)) as world, world.inside():
        yield world


def a_host(places: Path, number: int = 1) -> Host:
    home = places / secrets.token_hex(3)
    config = HostConfig(
        name=f"h{number}",
        broker_url="amqp://nobody@127.0.0.1:1/none",
        state_dir=home / "state",
        run_dir=home / "run",
        uplink=lab.UPLINK,
        qemu_user=accounts.QEMU,
    )
    home.mkdir(mode=0o711)
    return Host.open(config)


@contextmanager
def opened(world: World) -> Iterator[World]:
    """Nothing of the host is left afterwards."""
    yield world
    host = world.host
    with world.inside():
        for vm_id in store.vm_ids(host):
            spec = store.spec(host.paths.vm(vm_id))
            if spec:
                qemu.stop(spec.uuid, host.paths.vm(vm_id))
                world.remove(spec, generation=10**9)
        for network_id in netstore.network_ids(host.paths):
            world.tell(NetworkRemoval(network_id, host.uuid, 10**9))
        dhcp.stop(host.paths.dhcp)
        switches.remove(Switch(host.paths.tap_switch))
    shutil.rmtree(host.paths.state.parent)


@pytest.fixture
def privileged(bare_world: World, image_store: Path) -> World:
    """A host that has the micro guest's image."""
    for file in image_store.iterdir():
        os.link(file, bare_world.host.paths.image(file.name))
    return bare_world


@contextmanager
def supplied_world(
    places: Path, made: Lab, image: ImageSpec, image_store: Path, key: Path
) -> Iterator[World]:
    """A host that has the image, for more than one test."""
    with opened(World(a_host(places), made, image, key)) as world, world.inside():
        for file in image_store.iterdir():
            os.link(file, world.host.paths.image(file.name))
        yield world


@pytest.fixture
def world(privileged: World) -> World:
    """The host of most tests."""
    return privileged


@contextmanager
def a_rootless_host(
    home: Path,
    made: Lab,
    image: ImageSpec,
    key: Path,
    number: int = 1,
    authority: Authority | None = None,
) -> Iterator[RootlessWorld]:
    """Its agent runs, and nothing of its user's is left afterwards.

    `authority`: of the certificate in its bundle; it has none if nothing is said.
    """
    world = rootless_world(home, made, image, key, number)
    if authority:
        identify(world, authority)
    world.start_agent()
    try:
        with opened(world), world.inside():
            yield world
    finally:
        world.stop_agent()
    left = shell.run(["pgrep", "-af", home], timeout=10, ok=(0, 1)).stdout
    assert not left


@contextmanager
def supplied_rootless_host(
    places: Path, made: Lab, image: ImageSpec, image_store: Path, key: Path
) -> Iterator[RootlessWorld]:
    """Such a host that has the image."""
    home = places / secrets.token_hex(3)
    with a_rootless_host(home, made, image, key) as world:
        for file in image_store.iterdir():
            os.link(file, world.host.paths.image(file.name))
        yield world


@pytest.fixture
def rootless(
    places: Path, host_lab: Lab, micro: ImageSpec, image_store: Path, ssh_key: Path
) -> Iterator[RootlessWorld]:
    """A host without any privilege that has the micro guest's image."""
    with supplied_rootless_host(places, host_lab, micro, image_store, ssh_key) as world:
        yield world


@pytest.fixture(scope="module")
def shared_rootless(
    places: Path, host_lab: Lab, micro: ImageSpec, image_store: Path, ssh_key: Path
) -> Iterator[RootlessWorld]:
    """One for all tests of a module, which leave it and its guests as they found them.

    Beside it there can be no other: it has the address and the ports of the lab's first host.
    """
    with supplied_rootless_host(places, host_lab, micro, image_store, ssh_key) as world:
        yield world


@pytest.fixture(params=["privileged", pytest.param("rootless", marks=pytest.mark.rootless)])
def any_world(request: pytest.FixtureRequest) -> World:
    """A host of either kind: what a server goes through is the same on both."""
    world: World = request.getfixturevalue(request.param)
    return world


@pytest.fixture(scope="module")
def private_lab() -> Iterator[Lab]:
    made = Lab(secrets.token_hex(3))
    made.ensure(3)
    yield made
    made.remove()


@contextmanager
def three_hosts(
    places: Path, made: Lab, image: ImageSpec, image_store: Path, key: Path
) -> Iterator[list[World]]:
    """They have the image."""
    with ExitStack() as stack:
        worlds = [
            World(a_host(places, number), made, image, key, number=number) for number in (1, 2, 3)
        ]
        for world in worlds:
            stack.enter_context(opened(world))
            for file in image_store.iterdir():
                os.link(file, world.host.paths.image(file.name))
        yield worlds


@pytest.fixture
def hosts(
    places: Path, private_lab: Lab, micro: ImageSpec, image_store: Path, ssh_key: Path
) -> Iterator[list[World]]:
    """Three hosts that have the micro guest's image."""
    with three_hosts(places, private_lab, micro, image_store, ssh_key) as made:
        yield made


@pytest.fixture(scope="module")
def shared_hosts(
    places: Path, private_lab: Lab, micro: ImageSpec, image_store: Path, ssh_key: Path
) -> Iterator[list[World]]:
    """Such hosts for all tests of a module, which leave them and their guests as they were."""
    with three_hosts(places, private_lab, micro, image_store, ssh_key) as made:
        yield made


@pytest.fixture(scope="module")
def cabled_lab() -> Iterator[Lab]:
    made = Lab(secrets.token_hex(3))
    made.ensure(4)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.generated()


@pytest.fixture(scope="module")
def shared_cabled_hosts(
    places: Path,
    cabled_lab: Lab,
    authority: Authority,
    micro: ImageSpec,
    image_store: Path,
    ssh_key: Path,
) -> Iterator[list[World]]:
    with ExitStack() as stack:
        made: list[World] = []
        for number in (1, 2):
            home = places / secrets.token_hex(3)
            rootless = a_rootless_host(home, cabled_lab, micro, ssh_key, number, authority)
            made.append(stack.enter_context(rootless))
        for number in (3, 4):
            plain = World(a_host(places, number), cabled_lab, micro, ssh_key, number=number)
            identify(plain, authority)
            made.append(stack.enter_context(opened(plain)))
        for world in made:
            for file in image_store.iterdir():
                os.link(file, world.host.paths.image(file.name))
        yield made


@pytest.fixture
def cabled_hosts(shared_cabled_hosts: list[World]) -> Iterator[list[World]]:
    """Two without any privilege, then two of the mesh; without any network."""
    yield shared_cabled_hosts
    for world in shared_cabled_hosts:
        for spec in netstore.specs(world.host.paths):
            gone = NetworkRemoval(spec.network_id, world.host.uuid, spec.generation)
            with world.inside():
                assert world.tell(gone).converged
