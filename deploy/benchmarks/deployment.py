"""A cloud for the benchmark: own state, ports, namespaces, and the durability of a real one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from deploy import guests, state, stop
from deploy.benchmarks.guest import end_guests, wait_until
from deploy.cloud import Cloud
from deploy.images.image import DESCRIPTION, GuestImage
from deploy.ports import choose_ports
from deploy.state import Instance, Passwords
from deploy.steps import Steps
from vms.host.paths import HostPaths

_HOSTS = 2


@contextmanager
def own_instance() -> Iterator[Instance]:
    """An identity to start things under; whatever ran under it, now or before, is gone after."""
    home = state.default_state() / "bench"
    with state.locked(home):
        left = state.load(home)
        if left is not None:
            _remove(left)
        shutil.rmtree(home / "log", ignore_errors=True)
        ports = choose_ports(web=0, flower=0)
        instance = Instance(state.instance_id(home), home, ports, Passwords())
        instance.save()
        try:
            yield instance
        finally:
            _remove(instance)
            for secret in ("state.json", "token"):
                (home / secret).unlink(missing_ok=True)


def start(instance: Instance, steps: Steps) -> Cloud:
    """The whole cloud with two hosts, ready to take the first server."""
    cloud = Cloud(instance, hosts=_HOSTS)
    with steps.step("PostgreSQL, lab, schema"):
        cloud.prepare()
        cloud.start_broker()
        cloud.start_postgres()
        cloud.start_lab()
        cloud.migrate()
    with steps.step("RabbitMQ, control plane, hosts"):
        cloud.wait_for_broker()
        cloud.start_control()
        cloud.start_hosts()
        cloud.wait_until_up()
        cloud.wait_for_hosts(guests.ensure_token(cloud))
    return cloud


def offer(cloud: Cloud, image: GuestImage) -> None:
    """Register the image, and wait until every host has it: fetching is not what is measured."""
    guests.register(cloud, [image.disk.file.with_name(DESCRIPTION)])
    files = [part for part in (image.disk, image.kernel, image.initrd) if part]
    copies = [
        HostPaths(host.state, host.run).image(part.sha256) for host in cloud.hosts for part in files
    ]
    wait_until(lambda: all(copy.exists() for copy in copies), "the image on every host")
    api = guests.client(cloud.instance, guests.ensure_token(cloud))
    guests.wait_for_images(cloud.instance, api, 1)


def _remove(instance: Instance) -> None:
    for directory in (instance.data, instance.run):
        end_guests(directory)
    stop.remove_all(instance)
