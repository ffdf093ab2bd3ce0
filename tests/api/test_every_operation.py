"""Every operation of the OpenAPI document, asked what nobody would ask: no server error.

schemathesis makes the requests from the document that the server itself serves. So that they get
past the first check, half of them name objects that exist, and bodies are honest ones with parts
exchanged. Hosts are not needed: what is asked for is only never done.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cloud.broker import declare_cloud, declare_host
from cloud.models import Action
from cloud.tokens import issue_token
from networks.models import IpType
from networks.public_ips import IpOrder
from tests import factories as make
from tests.api.web_processes import web_processes
from tests.db import mesh
from vms.actions import create_vm
from vms.firewalls.actions import FirewallOrder, create_firewall
from vms.floating_ips import create_floating_ip
from vms.models import Image, ServerType
from vms.primary_ips import create_primary_ip
from vms.ssh_keys import create_ssh_key

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.faults]

# Requests for each operation; fewer once so much time is gone, on a machine that is busy.
EXAMPLES, FEWER = 12, 3
SECONDS = 60.0
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
RULE = {"direction": "in", "protocol": "tcp", "port": "80", "source_ips": ["0.0.0.0/0"]}


@pytest.fixture
def ids(rabbitmq: str) -> dict[str, int]:
    """A small cloud with one of everything; an id for each collection of the API."""
    declare_cloud(rabbitmq)
    declare_host(rabbitmq, "h1")
    host = make.host(disk_gb=10_000, memory_mb=2**20, **mesh.facts(1))
    make.pool()
    make.pool("2001:db8::/48")
    image, size = make.image(), make.server_type()
    project = make.project()
    key = create_ssh_key(project, name="key", public_key=make.SSH_KEY, labels={})
    network = mesh.network()
    vm = create_vm(project, make.order("web-1", ssh_keys=(key,), networks=(network,))).vm
    firewall, _ = create_firewall(project, FirewallOrder("web"))
    floating, _ = create_floating_ip(project, IpOrder(IpType.IPV4, make.location()), vm)
    primary, _ = create_primary_ip(project, IpOrder(IpType.IPV4, make.location(), name="kept"))
    return {
        "servers": vm.pk,
        "images": image.pk,
        "server_types": size.pk,
        "ssh_keys": key.pk,
        "networks": network.pk,
        "firewalls": firewall.pk,
        "floating_ips": floating.pk,
        "primary_ips": primary.pk,
        "hosts": host.pk,
        "locations": host.location_id,
        "datacenters": host.location_id,
        "actions": Action.objects.order_by("pk")[0].pk,
        "audit": 1,
    }


@pytest.fixture
def server(ids: dict[str, int], tmp_path: Path) -> Iterator[str]:
    with web_processes(1, tmp_path / "web.log") as (url,):
        yield url


def honest(ids: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Bodies by the end of the path that they may be posted to."""
    image, size = Image.objects.get().name, ServerType.objects.get().name
    target = {"type": "server", "server": {"id": ids["servers"]}}
    ip = {"type": "ipv4", "name": "ip", "description": "d", "labels": {"a": "b"}}
    return {
        "/servers": {
            "name": "web-2", "server_type": size, "image": image, "labels": {"a": "b"},
            "ssh_keys": ["key"], "networks": [ids["networks"]], "user_data": "#!/bin/sh\n",
            "public_net": {"enable_ipv4": True, "enable_ipv6": False}, "location": "lab",
            "firewalls": [{"firewall": ids["firewalls"]}], "start_after_create": True,
        },
        "/networks": {"name": "n", "ip_range": "10.0.0.0/8", "subnets": [], "routes": []},
        "/firewalls": {"name": "f", "rules": [RULE], "apply_to": [target]},
        "/floating_ips": {**ip, "home_location": "lab", "server": ids["servers"]},
        "/primary_ips": {**ip, "datacenter": "lab-dc1", "assignee_type": "server"},
        "/ssh_keys": {"name": "k", "public_key": make.SSH_KEY, "labels": {}},
        "set_rules": {"rules": [RULE]},
        "apply_to_resources": {"apply_to": [target]},
        "remove_from_resources": {"remove_from": [target]},
        "add_subnet": {"type": "cloud", "ip_range": "10.0.9.0/24", "network_zone": "local"},
        "delete_subnet": {"ip_range": "10.0.1.0/24"},
        "add_route": {"destination": "10.100.1.0/24", "gateway": "10.0.1.1"},
        "delete_route": {"destination": "10.100.1.0/24", "gateway": "10.0.1.1"},
        "change_ip_range": {"ip_range": "10.0.0.0/12"},
        "attach_to_network": {"network": ids["networks"], "ip": "10.0.1.9", "alias_ips": []},
        "detach_from_network": {"network": ids["networks"]},
        "change_alias_ips": {"network": ids["networks"], "alias_ips": ["10.0.1.10"]},
        "change_dns_ptr": {"ip": "203.0.113.1", "dns_ptr": "a.example"},
        "change_protection": {"delete": True, "rebuild": True},
        "change_forwarded_ports": {"forwarded_ports": [{"protocol": "tcp", "guest_port": 22}]},
        "rebuild": {"image": image},
        "assign": {"server": ids["servers"], "assignee_id": ids["servers"]},
    }  # fmt: skip


def body_of(path: str, bodies: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return next((deepcopy(body) for end, body in bodies.items() if path.endswith(end)), {})


def last(operation: Any) -> tuple[bool, str]:
    """What ends things comes after all that needs them."""
    return operation.method.upper() == "DELETE", operation.path


@dataclass
class Asker:
    """Asks operations, and remembers what each answered."""

    ids: dict[str, int]
    bodies: dict[str, Any]
    token: str
    began: float = field(default_factory=time.monotonic)
    answers: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    @property
    def examples(self) -> int:
        return EXAMPLES if time.monotonic() - self.began < SECONDS else FEWER


def ask(operation: Any, asker: Asker) -> str | None:
    """What is wrong with the answers to some requests of an operation, None if nothing is."""
    ids = asker.ids

    @settings(
        max_examples=asker.examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(), st.data())
    def many(case: Any, data: Any) -> None:
        collection = operation.path.split("/")[2]
        if collection in ids and data.draw(st.booleans()):
            for name in case.path_parameters or {}:
                case.path_parameters[name] = ids[collection]
        true = body_of(operation.path, asker.bodies)
        if true and isinstance(case.body, dict) and data.draw(st.integers(0, 3)):
            strange = list(case.body)
            kept = data.draw(st.sets(st.sampled_from(strange), max_size=2)) if strange else set()
            case.body = {**true, **{name: case.body[name] for name in kept}}
        headers = {"Authorization": f"Bearer {asker.token}"}
        response = case.call(headers=headers, timeout=30)
        asker.answers[operation.label].add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    try:
        many()
    except requests.RequestException as error:
        return f"{operation.label}: {error!r}"
    except BaseExceptionGroup as error:
        return f"{operation.label}: {error.exceptions!r}"
    except AssertionError as error:
        return f"{operation.label}: {error}"
    return None


def test_no_operation_answers_anything_with_a_server_error(
    server: str, ids: dict[str, int]
) -> None:
    token = issue_token(make.project(), "all", operator=True, requests_per_hour=2**30)
    schema = schemathesis.openapi.from_url(f"{server}/v1/schema?format=json")
    operations = sorted((found.ok() for found in schema.get_all_operations()), key=last)
    asker = Asker(ids, honest(ids), token)
    wrong = [problem for operation in operations if (problem := ask(operation, asker))]
    assert not wrong, "\n\n".join(wrong)
    assert len(operations) > 100
    # Otherwise nothing was asked that got past the first check.
    done = {label for label, seen in asker.answers.items() if min(seen) < 300}
    assert len(done) > len(operations) / 2, sorted(asker.answers.items())
