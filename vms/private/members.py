"""The members of a private network as the API shows them, each with what is happening to it."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address
from typing import Any

from django.db.models import Case, CharField, Exists, OuterRef, Q, QuerySet, Subquery, Value, When

from cloud.models import ActionResource
from networks.models import PrivateNetwork
from vms.models import Nic, PrivateAddress
from vms.private.servers import ATTACH, CHANGE_ALIAS_IPS


class MemberStatus(StrEnum):
    OK = "ok"
    ATTACHING = "attaching"
    DETACHING = "detaching"
    UPDATING = "updating"
    ERROR = "error"


def members_of(network: PrivateNetwork) -> QuerySet[Nic]:
    """All of them, with `type`, `ip` and `status`, in a constant number of queries."""
    own = PrivateAddress.objects.filter(nic=OuterRef("pk"), alias=False)
    status = Case(
        When(vm__deleting=True, then=Value(MemberStatus.DETACHING)),
        When(~Q(vm__failure_code=""), then=Value(MemberStatus.ERROR)),
        When(_under_way(ATTACH), then=Value(MemberStatus.ATTACHING)),
        When(_under_way(CHANGE_ALIAS_IPS), then=Value(MemberStatus.UPDATING)),
        default=Value(MemberStatus.OK),
        output_field=CharField(),
    )
    members = Nic.objects.filter(network=network).prefetch_related(
        "addresses", "network__subnets", "network__routes"
    )
    return members.annotate(
        type=Value("server"), ip=Subquery(own.values("ip")[:1]), status=status
    ).order_by("vm")


def subnet_of(member: Any) -> str:
    """The subnet that the address is of that `members_of()` found."""
    return str(member.network.layout.subnet_of(IPv4Address(str(member.ip))))


def _under_way(command: str) -> Exists:
    """Whether such an Action about both the server and the network runs."""
    about_server = ActionResource.objects.filter(
        type="server",
        resource_id=OuterRef("vm"),
        action__status="running",
        action__command=command,
        action__resources__type=PrivateNetwork.resource,
        action__resources__resource_id=OuterRef("network"),
    )
    return Exists(about_server)
