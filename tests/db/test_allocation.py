"""Claims are exact under parallel requests, and a refused one leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloud.errors import InvalidInput, NotUnique, ResourceUnavailable
from cloud.models import Action
from networks.models import Address
from networks.pools import Pool, describe_pool, ensure_pool
from tests import factories as make
from vms.actions import create_vm
from vms.models import VM, Nic

Parallel = Callable[[Callable[[int], Any], int], list[Any]]
pytestmark = pytest.mark.django_db(transaction=True)


def outcomes(results: list[Any]) -> tuple[int, list[Exception]]:
    errors = [result for result in results if isinstance(result, Exception)]
    return len(results) - len(errors), errors


def test_the_last_room_goes_to_exactly_one_of_two_parallel_creates(parallel: Parallel) -> None:
    make.host(memory_mb=300)
    make.pool()
    order = make.order()
    project = make.project()

    def create(number: int) -> Any:
        return create_vm(project, make.order(f"web-{number}", image=order.image))

    created, errors = outcomes(parallel(create, 2))
    assert created == 1
    assert isinstance(errors[0], ResourceUnavailable)
    assert "h1: has 44 MiB of memory free of 256 needed" in errors[0].message
    assert VM.objects.count() == 1


def test_the_last_addresses_go_to_as_many_creates_and_to_none_twice(parallel: Parallel) -> None:
    make.host()
    make.pool("203.0.113.0/29")
    order = make.order()
    project = make.project()

    def create(number: int) -> Any:
        return create_vm(project, make.order(f"web-{number}", image=order.image))

    created, errors = outcomes(parallel(create, 9))
    assert created == 6
    assert all(isinstance(error, ResourceUnavailable) for error in errors)
    ips = list(Address.objects.values_list("ip", flat=True))
    assert len(ips) == len(set(ips)) == 6
    assert VM.objects.count() == Nic.objects.count() == 6
    assert Action.objects.count() == 12


def test_one_name_is_given_once(parallel: Parallel) -> None:
    make.host()
    make.pool()
    order = make.order("web")
    project = make.project()
    created, errors = outcomes(parallel(lambda _: create_vm(project, order), 3))
    assert created == 1
    assert all(isinstance(error, NotUnique) for error in errors)
    assert Address.objects.count() == 1


def test_a_full_host_passes_the_vm_on_to_the_next(parallel: Parallel) -> None:
    make.host("h1", memory_mb=512)
    make.host("h2", memory_mb=512)
    make.pool()
    order = make.order()
    project = make.project()

    def create(number: int) -> Any:
        return create_vm(project, make.order(f"web-{number}", image=order.image)).vm.host.name

    results = parallel(create, 4)
    assert sorted(results) == ["h1", "h1", "h2", "h2"]


def test_an_excluded_address_is_never_lent() -> None:
    make.host()
    make.pool("203.0.113.0/30", excluded=["203.0.113.1"])
    assert str(make.ordered().vm.nics.get().ipv4.address) == "203.0.113.2"


def test_a_pool_excludes_addresses_of_its_own_kind_only() -> None:
    pool = ensure_pool(Pool("v4", "203.0.113.0/28", make.location(), excluded=("203.0.113.1",)))
    with pytest.raises(InvalidInput):
        ensure_pool(Pool("v4", "203.0.113.0/28", make.location(), excluded=("2001:db8::1",)))
    with pytest.raises(InvalidInput):
        describe_pool(pool, name="v4", excluded=("2001:db8::1",), dns=())
