"""What an answer costs does not grow with what it shows.

Each number has two that every request needs: its token, and the token's bucket of requests.
"""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from cloud.models import Host
from networks.models import IpType
from networks.public_ips import IpOrder
from tests import factories as make
from tests.api.conftest import Api, api_of
from tests.db import mesh
from vms.actions import create_vm
from vms.attachments import PublicNet
from vms.floating_ips import create_floating_ip
from vms.ports import Forward
from vms.ssh_keys import create_ssh_key


def queries_of(api: Api, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert api.get(path).status == 200
    return len(captured)


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("servers?per_page=50", 12),
        ("actions?per_page=50", 5),
        ("servers/actions?per_page=50", 5),
        ("hosts", 4),
        ("audit?per_page=50&verb=server.create", 4),
        ("hosts/{host}/nics?per_page=50", 8),
        ("primary_ips?per_page=50", 8),
        ("floating_ips?per_page=50", 8),
        ("addresses/203.0.113.1/history", 5),
        ("networks?per_page=50", 8),
        ("networks/{network}/members?per_page=50", 9),
    ],
)
def test_a_list_takes_as_many_queries_for_thirty_as_for_three(
    lab: None, path: str, most: int
) -> None:
    make.host("h2", disk_gb=1000)
    make.pool("203.0.113.64/26")
    make.pool("2001:db8::/56")
    project = make.project()
    key = create_ssh_key(project, name="key", public_key=make.SSH_KEY, labels={})
    api = api_of(project, operator=True)
    Host.objects.filter(name="h1").update(**mesh.facts(1), memory_mb=2**20, disk_gb=1000)
    Host.objects.filter(name="h2").update(schedulable=False)
    network = mesh.network()
    path = path.format(host=Host.objects.get(name="h1").pk, network=network.pk)
    api.get("servers")

    def order(first: int, last: int) -> None:
        for number in range(first, last):
            own = mesh.network(f"own-{number}", "10.1.0.0/16")
            order = make.order(f"web-{number}", ssh_keys=(key,), networks=(network, own))
            vm = create_vm(project, order).vm
            create_floating_ip(project, IpOrder(IpType.IPV4, make.location()), vm)

    order(0, 3)
    few = queries_of(api, path)
    order(3, 30)
    assert queries_of(api, path) == few <= most


@pytest.mark.rootless
@pytest.mark.parametrize(
    ("path", "most"),
    [("servers?per_page=50", 12), ("hosts", 4), ("hosts/{host}/nics?per_page=50", 8)],
)
def test_a_list_costs_the_same_for_servers_behind_their_host(
    db: None, path: str, most: int
) -> None:
    make.image()
    host = make.user_host(cores=1000, memory_mb=2**20, disk_gb=1000)
    api = api_of(make.project(), operator=True)
    path = path.format(host=host.pk)
    api.get("servers")

    def order(first: int, last: int) -> None:
        for number in range(first, last):
            ports = tuple(Forward("tcp", port) for port in (22, 80))
            create_vm(
                make.project(),
                make.order(f"web-{number}", public_net=PublicNet(forwarded=ports)),
            )

    order(0, 3)
    few = queries_of(api, path)
    order(3, 30)
    assert queries_of(api, path) == few <= most
