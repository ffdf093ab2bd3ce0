"""What a user may ask of a server where private networks are concerned.

The host of the server makes or removes the interface; every host with a member of the network is
told who the members are. Neither message waits for the other, a host tries again until it has both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import transaction

from cloud.actions import Resource
from cloud.locks import hold_project
from cloud.models import Action
from networks.models import PrivateNetwork
from vms.errands import Errand, ask_anew, lock_vm, open_errand, refuse_if_exclusive
from vms.lifecycle import ActionGoal
from vms.models import VM
from vms.private.membership import Seat, join, leave, nic_in, replace_aliases
from vms.private.replication import replicate

ATTACH = "attach_to_network"
DETACH = "detach_from_network"
CHANGE_ALIAS_IPS = "change_alias_ips"


def attach_to_network(vm: VM, network: PrivateNetwork, seat: Seat | None = None) -> Action:
    """Give the server an interface in the network, also while it runs.

    Raises Locked, or what `vms.private.membership.join` raises.
    """
    with _locked(vm) as vm:
        join(vm, network, seat)
        replicate([network.pk])
        return _ask(vm, network, ATTACH)


def detach_from_network(vm: VM, network: PrivateNetwork) -> Action:
    """Take the server out of the network; raises Locked or InvalidInput (it is not in it)."""
    with _locked(vm) as vm:
        leave(nic_in(vm, network))
        action = _ask(vm, network, DETACH)
        replicate([network.pk])
        return action


def change_alias_ips(vm: VM, network: PrivateNetwork, alias_ips: Sequence[str]) -> Action:
    """Replace the further addresses that the server answers for in the network.

    Raises Locked, InvalidInput, LimitExceeded or IpNotAvailable.
    """
    with _locked(vm) as vm:
        replace_aliases(nic_in(vm, network), alias_ips)
        replicate([network.pk])
        return _ask(vm, network, CHANGE_ALIAS_IPS)


def attach_new(vm: VM) -> tuple[Action, ...]:
    """Tell of the networks that a server is created in; ends with its first document.

    Call within the transaction that makes the server.
    """
    networks = [nic.network for nic in vm.nics.all() if nic.network]
    replicate(network.pk for network in networks)
    return tuple(open_errand(vm, errand(network, ATTACH)) for network in networks)


@contextmanager
def _locked(vm: VM) -> Iterator[VM]:
    """The server as it is now, and nobody else joins or leaves networks of its project."""
    with transaction.atomic():
        hold_project(vm.project_id)
        now = lock_vm(vm.pk)
        refuse_if_exclusive(now)
        yield now


def _ask(vm: VM, network: PrivateNetwork, command: str) -> Action:
    return ask_anew(vm, errand(network, command))


def errand(network: PrivateNetwork, command: str) -> Errand:
    """What is asked of a server, about this network."""
    about: Resource = (network.resource, network.pk)
    return Errand(command, ActionGoal.APPLIED, about=(about,))
