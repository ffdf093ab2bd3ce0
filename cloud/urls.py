"""Every URL of the control plane in one table."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerView

from cloud.admin.login import login
from cloud.admin.recording import OwnPassword
from cloud.api.document import Document
from cloud.api.views import NotOffered, UnknownRoute
from cloud.deadletter_views import DeadLetters
from cloud.scrape import scrape
from cloud.views import Actions, AuditEntries, Hosts, Locations, ResourceActions
from networks.address_views import AddressHistory
from networks.models import FloatingIp, PrimaryIp
from vms.actions import PowerCommand
from vms.drift.views import Differences
from vms.firewalls.views import Firewalls
from vms.gauges import Inventory
from vms.ip_views import FloatingIps, IpActions, PrimaryIps, PublicIps
from vms.nic_views import HostNics
from vms.private.views import Members, NetworkActions, Networks
from vms.views import (
    ACTIONS_NOT_OFFERED,
    Datacenters,
    ImageActions,
    Images,
    Pricing,
    Servers,
    ServerTypes,
    SshKeys,
)

# Methods of a collection and of one object in it.
Methods = dict[str, Any]
LIST: Methods = {"get": "list"}
LIST_CREATE: Methods = {"get": "list", "post": "create"}
ONE: Methods = {"get": "retrieve"}
ONE_CHANGE: Methods = {"get": "retrieve", "put": "update", "delete": "destroy"}

# Resources of the contract that this cloud does not have, and those whose actions are listed.
NOT_OFFERED = (
    "certificates",
    "isos",
    "load_balancer_types",
    "load_balancers",
    "placement_groups",
    "storage_box_types",
    "storage_boxes",
    "volumes",
    "zones",
)
NOT_OFFERED_WITH_ACTIONS = {
    "volumes": "volume",
}


# Server actions, beside those that press power buttons, and network actions.
SERVER_COMMANDS = (
    "change_protection",
    "change_dns_ptr",
    "attach_to_network",
    "detach_from_network",
    "change_alias_ips",
    "change_forwarded_ports",
)
NETWORK_COMMANDS = (
    "add_subnet",
    "delete_subnet",
    "add_route",
    "delete_route",
    "change_ip_range",
    "change_protection",
)


def actions_of(
    plural: str, resource: str, view: type[ResourceActions] = ResourceActions, **options: Any
) -> list[URLPattern]:
    """The four paths of the actions of one kind of resource."""
    options["resource"] = resource
    return [
        path(f"{plural}/actions", view.as_view(LIST, **options)),
        path(f"{plural}/actions/<int:pk>", view.as_view(ONE, **options)),
        path(f"{plural}/<int:owner>/actions", view.as_view(LIST, **options)),
        path(f"{plural}/<int:owner>/actions/<int:pk>", view.as_view(ONE, **options)),
    ]


def public_ips(
    view: type[PublicIps[Any]], kind: type[PrimaryIp] | type[FloatingIp]
) -> list[URLPattern]:
    """All paths of primary or of floating IPs."""
    commands = ("assign", "unassign", "change_dns_ptr", "change_protection")
    return [
        path(view.plural, view.as_view(LIST_CREATE)),
        path(f"{view.plural}/<int:pk>", view.as_view(ONE_CHANGE)),
        *actions_of(view.plural, view.singular, IpActions, kind=kind),
        *(
            path(f"{view.plural}/<int:pk>/actions/{command}", view.as_view({"post": command}))
            for command in commands
        ),
    ]


api: list[URLPattern | URLResolver] = [
    path("actions", Actions.as_view(LIST)),
    path("actions/<int:pk>", Actions.as_view(ONE)),
    path("actions/<int:pk>/timeline", Actions.as_view({"get": "timeline"})),
    path("locations", Locations.as_view(LIST)),
    path("locations/<int:pk>", Locations.as_view(ONE)),
    path("datacenters", Datacenters.as_view(LIST)),
    path("datacenters/<int:pk>", Datacenters.as_view(ONE)),
    path("server_types", ServerTypes.as_view(LIST)),
    path("server_types/<int:pk>", ServerTypes.as_view(ONE)),
    path("images", Images.as_view(LIST)),
    path("images/<int:pk>", Images.as_view(ONE_CHANGE)),
    *actions_of("images", "image", ImageActions),
    path(
        "images/<int:pk>/actions/change_protection", Images.as_view({"post": "change_protection"})
    ),
    path("ssh_keys", SshKeys.as_view(LIST_CREATE)),
    path("ssh_keys/<int:pk>", SshKeys.as_view(ONE_CHANGE)),
    path("servers", Servers.as_view(LIST_CREATE)),
    path("servers/<int:pk>", Servers.as_view(ONE_CHANGE)),
    path("servers/<int:pk>/metrics", Servers.as_view({"get": "metrics"})),
    *actions_of("servers", "server"),
    *(
        path(
            f"servers/<int:pk>/actions/{command}",
            Servers.as_view({"post": "power"}, command=command),
        )
        for command in PowerCommand
    ),
    *(
        path(f"servers/<int:pk>/actions/{command}", Servers.as_view({"post": command}))
        for command in SERVER_COMMANDS
    ),
    *(
        path(f"servers/<int:pk>/actions/{what}", Servers.as_view({"post": "refuse"}, what=what))
        for what in ACTIONS_NOT_OFFERED
    ),
    *public_ips(PrimaryIps, PrimaryIp),
    *public_ips(FloatingIps, FloatingIp),
    path("addresses/<str:ip>/history", AddressHistory.as_view(LIST)),
    path("firewalls", Firewalls.as_view(LIST_CREATE)),
    path("firewalls/<int:pk>", Firewalls.as_view(ONE_CHANGE)),
    *actions_of("firewalls", "firewall"),
    *(
        path(f"firewalls/<int:pk>/actions/{command}", Firewalls.as_view({"post": command}))
        for command in ("set_rules", "apply_to_resources", "remove_from_resources")
    ),
    path("networks", Networks.as_view(LIST_CREATE)),
    path("networks/<int:pk>", Networks.as_view(ONE_CHANGE)),
    path("networks/<int:owner>/members", Members.as_view(LIST)),
    *actions_of("networks", "network", NetworkActions),
    *(
        path(f"networks/<int:pk>/actions/{command}", Networks.as_view({"post": command}))
        for command in NETWORK_COMMANDS
    ),
    path("pricing", Pricing.as_view()),
    path("hosts", Hosts.as_view(LIST)),
    path("hosts/<int:pk>", Hosts.as_view(ONE)),
    path("hosts/<int:owner>/nics", HostNics.as_view(LIST)),
    path("drift", Differences.as_view(LIST)),
    path("drift/<int:pk>", Differences.as_view(ONE)),
    path("audit", AuditEntries.as_view(LIST)),
    path("audit/<int:pk>", AuditEntries.as_view(ONE)),
    path("dead_letters", DeadLetters.as_view(LIST)),
    path("dead_letters/<int:pk>", DeadLetters.as_view(ONE)),
    path("schema", Document.as_view(), name="schema"),
    path("docs", SpectacularSwaggerView.as_view(url_name="schema")),
    *(
        pattern
        for plural, resource in NOT_OFFERED_WITH_ACTIONS.items()
        for pattern in actions_of(plural, resource, schema=None)
    ),
    *(path(plural, NotOffered.as_view(plural=plural)) for plural in NOT_OFFERED),
    *(path(f"{plural}/<path:rest>", NotOffered.as_view(plural=plural)) for plural in NOT_OFFERED),
    path("", UnknownRoute.as_view()),
    path("<path:rest>", UnknownRoute.as_view()),
]

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("admin/password_change/", admin.site.admin_view(OwnPassword.as_view(), cacheable=True)),
    path("admin/login/", login),
    path("admin/", admin.site.urls),
    path("metrics", scrape, {"collectors": (Inventory(),)}),
    path("v1/", include(api)),
    path("v1", UnknownRoute.as_view()),
]

handler400 = "cloud.views.bad_request"
handler500 = "cloud.views.server_error"
