"""Private networks as a person reads them: badges, and the tables of their pages."""

from __future__ import annotations

from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from cloud.admin.activity import HEADERS, action_rows
from cloud.admin.display import NOTHING, Tone, ago, badge, code, faint, link, list_url, stacked
from cloud.admin.page import Cell, Table
from cloud.models import Action
from networks.models import PrivateNetwork, Replica
from vms.private.members import MemberStatus, members_of, subnet_of

# More members and hosts than anybody reads on one page.
_SHOWN = 100

_TONES = {
    MemberStatus.OK: Tone.GOOD,
    MemberStatus.ATTACHING: Tone.BUSY,
    MemberStatus.UPDATING: Tone.BUSY,
    MemberStatus.DETACHING: Tone.WARN,
    MemberStatus.ERROR: Tone.BAD,
}


def replica_badge(replica: Replica) -> SafeString:
    """Whether a host has the network as it should."""
    if replica.failure_code:
        return stacked(
            badge("failed", Tone.BAD, hint=replica.failure_code), replica.failure_message
        )
    if replica.converged:
        return badge("as told" if replica.wanted else "gone", Tone.GOOD)
    if replica.observed_generation < replica.generation:
        return badge("told", Tone.BUSY, moving=True, hint="Its host has not answered yet.")
    return badge("under way", Tone.BUSY, moving=True)


def subnets_table(network: PrivateNetwork) -> Table:
    rows: list[list[Cell]] = [
        [code(subnet), code(subnet.gateway), subnet.network_zone, subnet.get_type_display()]
        for subnet in network.subnets.all()
    ]
    headers = ("Subnet", "Gateway", "Network zone", "Type")
    return Table("Subnets", headers, rows, "No subnet yet: no server can join.")


def routes_table(network: PrivateNetwork) -> Table:
    rows: list[list[Cell]] = [
        [code(route.destination), code(route.gateway)] for route in network.routes.all()
    ]
    return Table("Routes", ("For", "By way of"), rows, "No routes.")


def members_table(network: PrivateNetwork) -> Table:
    rows: list[list[Cell]] = [
        [
            link(nic.vm),
            code(nic.ip),  # type: ignore[attr-defined]
            format_html_join(" ", "{}", ((code(ip),) for ip in nic.alias_ips)) or NOTHING,
            code(subnet_of(nic)),
            code(nic.mac),
            badge(nic.status, _TONES[MemberStatus(nic.status)]),  # type: ignore[attr-defined]
        ]
        for nic in members_of(network).select_related("vm")[:_SHOWN]
    ]
    headers = ("Server", "Address", "Alias IPs", "Subnet", "MAC", "State")
    return Table("Servers", headers, rows, "No server is in it.")


def hosts_table(network: PrivateNetwork) -> Table:
    """What each host with a member was told, and what it answered."""
    rows: list[list[Cell]] = [
        [
            link(replica.host),
            code(replica.host.tunnel_ip),
            replica_badge(replica),
            stacked(f"told {replica.generation}", f"has {replica.observed_generation}"),
            ago(replica.observed_at) if replica.observed_at else faint("never"),
        ]
        for replica in network.replicas.select_related("host").order_by("host__name")[:_SHOWN]
    ]
    headers = ("Host", "In the mesh", "State", "Generation", "Heard of it")
    return Table("Hosts", headers, rows, "No host has it, as no server is in it.")


def actions_table(network: PrivateNetwork) -> Table:
    about = Action.objects.of(network.resource, network.pk).prefetch_related("resources")
    more = list_url(Action, f"?q={network.pk}")
    rows = action_rows(about.order_by("-id")[:10])
    return Table("Last actions", HEADERS, rows, "None yet.", more_url=more)
