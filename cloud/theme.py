"""How the admin looks: its name, colours and sidebar. Read by `cloud.settings`, so no models."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy

from cloud.version import VERSION

API_DOCS_URL = "/v1/docs"


def has_flower(request: HttpRequest) -> bool:
    return bool(flower_url(request))


def flower_url(request: HttpRequest) -> str:
    """Flower's list of tasks; empty if this cloud runs none."""
    return f"{settings.FLOWER_URL.rstrip('/')}/tasks" if settings.FLOWER_URL else ""


def _asset(name: str) -> Any:
    return lambda request: static(f"cloud/admin/{name}")


def _page(title: str, icon: str, view: str, **more: Any) -> dict[str, Any]:
    permission, _, _ = view.partition("_changelist")
    app, _, model = permission.partition("_")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{view}"),
        "permission": lambda request: request.user.has_perm(f"{app}.view_{model}"),
        **more,
    }


_SIDEBAR = [
    {
        "items": [
            {"title": "Overview", "icon": "space_dashboard", "link": reverse_lazy("admin:index")},
            _page(
                "Activity",
                "bolt",
                "cloud_action_changelist",
                badge="cloud.admin.activity.open_count",
                badge_variant="info",
            ),
        ]
    },
    {
        "title": "Compute",
        "separator": True,
        "items": [
            _page("Servers", "dns", "vms_vm_changelist"),
            _page("Images", "album", "vms_image_changelist"),
            _page("Server types", "memory", "vms_servertype_changelist"),
            _page("SSH keys", "key", "vms_sshkey_changelist"),
        ],
    },
    {
        "title": "Network",
        "separator": True,
        "items": [
            _page("Networks", "lan", "networks_network_changelist"),
            _page("Private networks", "hub", "networks_privatenetwork_changelist"),
            _page("Primary IPs", "public", "networks_primaryip_changelist"),
            _page("Floating IPs", "swap_horiz", "networks_floatingip_changelist"),
            _page("Addresses", "pin_drop", "networks_address_changelist"),
            _page("Firewalls", "local_fire_department", "networks_firewall_changelist"),
        ],
    },
    {
        "title": "Infrastructure",
        "separator": True,
        "items": [
            _page("Hosts", "host", "cloud_host_changelist"),
            _page(
                "Drift",
                "difference",
                "cloud_drift_changelist",
                badge="vms.admin.drift.standing_count",
                badge_variant="warning",
            ),
            _page("Locations", "location_on", "cloud_location_changelist"),
            _page("Dead letters", "mark_email_unread", "cloud_deadletter_changelist"),
        ],
    },
    {
        "title": "Access",
        "separator": True,
        "items": [
            _page("Projects", "folder_open", "cloud_project_changelist"),
            _page("API tokens", "vpn_key", "cloud_apitoken_changelist"),
            _page("Administrators", "shield_person", "auth_user_changelist"),
            _page("Audit", "policy", "cloud_auditentry_changelist"),
        ],
    },
    {
        "title": "Tools",
        "separator": True,
        "items": [
            {
                "title": "Task monitor",
                "icon": "monitor_heart",
                "link": flower_url,
                "permission": has_flower,
            },
            {"title": "API reference", "icon": "api", "link": API_DOCS_URL},
        ],
    },
]

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Cumulet",
    "SITE_HEADER": "Cumulet",
    "SITE_SUBHEADER": f"Private cloud · {VERSION}",
    "SITE_URL": None,
    "SITE_ICON": _asset("icon.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _asset("icon.svg")}],
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "8px",
    "STYLES": [_asset("admin.css")],
    "SCRIPTS": [_asset("admin.js")],
    "DASHBOARD_CALLBACK": "vms.admin.dashboard.context",
    "LOGIN": {"image": _asset("sky.svg")},
    "COMMAND": {"search_models": ["vms.vm", "cloud.host", "networks.address", "vms.image"]},
    "SIDEBAR": {"show_search": True, "command_search": True, "navigation": _SIDEBAR},
    "COLORS": {
        "primary": {
            "50": "oklch(97.1% .014 254)",
            "100": "oklch(93.6% .032 255)",
            "200": "oklch(88.4% .059 256)",
            "300": "oklch(80.6% .106 257)",
            "400": "oklch(70.4% .161 259)",
            "500": "oklch(61.5% .204 262)",
            "600": "oklch(54.1% .228 264)",
            "700": "oklch(47.6% .219 266)",
            "800": "oklch(41.5% .178 267)",
            "900": "oklch(36.8% .132 267)",
            "950": "oklch(27.2% .091 268)",
        },
    },
}
