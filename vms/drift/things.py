"""How things are called, on both sides: a host that has one and control that wants it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from networks.host.plan import Forwarding, Names
from vms.drift.spec import Kind, Thing

Key = tuple[Kind, str]
# What is said of an address: that it is led to a guest, and that the host answers for it.
ROUTE, ANSWER = "route ", "answer for "
# The flaw of a TAP that was removed and made anew under its guest.
UNHELD = "its guest runs and does not hold it"


def key(thing: Thing) -> Key:
    return thing.kind, thing.name


def server(vm_id: int, uuid: str) -> Thing:
    return Thing(Kind.SERVER, f"{vm_id} {uuid}", server=vm_id, uuid=uuid)


def disk(vm_id: int, index: int) -> Thing:
    return Thing(Kind.DISK, f"{vm_id}/disk-{index}", server=vm_id)


def process(vm_id: int | None, uuid: str) -> Thing:
    return Thing(Kind.PROCESS, uuid, server=vm_id, uuid=uuid)


def route(vm_id: int | None, network: object, interface: str) -> Thing:
    return Thing(Kind.ADDRESS, f"{ROUTE}{network} to {interface}", server=vm_id)


def answer(vm_id: int | None, address: object) -> Thing:
    return Thing(Kind.ADDRESS, f"{ANSWER}{address}", server=vm_id)


def outlet(vm_id: int, index: int) -> Thing:
    return Thing(Kind.OUTLET, f"{vm_id}-{index}", server=vm_id)


def port(vm_id: int, protocol: str, number: int, guest_port: int) -> Thing:
    return Thing(Kind.PORT, f"{protocol} {number} to {guest_port} of {vm_id}", server=vm_id)


def switch(network_id: int) -> Thing:
    return Thing(Kind.SWITCH, str(network_id), network=network_id)


def entries(network_id: int, name: Names, forwarding: Forwarding) -> Iterator[Thing]:
    """What is written in the tables of a network's bridge and tunnel."""
    fdb = partial(Thing, Kind.FDB, network=network_id)
    for mac, host in forwarding.tunnels:
        yield fdb(f"{mac} to {host} in {name.tunnel}")
    for mac, at in forwarding.ports:
        yield fdb(f"{mac} at {at} in {name.bridge}")
    for address, mac in forwarding.neighbours:
        told = f"{address} is {mac} in {name.bridge}"
        yield Thing(Kind.NEIGHBOUR, told, network=network_id)
