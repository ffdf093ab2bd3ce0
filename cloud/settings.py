"""Django settings: one file, everything that differs between clouds from the environment."""

from __future__ import annotations

import logging
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from environs import Env

from cloud.logs import logging_config
from cloud.theme import UNFOLD as UNFOLD
from cloud.version import VERSION

env = Env()
BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = env.str("CUMULET_SECRET_KEY")
DEBUG = env.bool("CUMULET_DEBUG", False)
ALLOWED_HOSTS = env.list("CUMULET_ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"])
PUBLIC_URL = env.str("CUMULET_PUBLIC_URL", "http://127.0.0.1:8000")
FLOWER_URL = env.str("CUMULET_FLOWER_URL", "")
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
SECURE_COOKIES = PUBLIC_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "netfields",
    "cloud",
    "networks",
    "vms",
]

MIDDLEWARE = [
    "cloud.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "cloud.middleware.ActorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

LOGIN_URL = "/admin/login/"
LOGIN_REDIRECT_URL = "/admin/"
ROOT_URLCONF = "cloud.urls"
WSGI_APPLICATION = "cloud.wsgi.application"
APPEND_SLASH = False

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Before those of apps, one of which is the theme.
        "DIRS": [BASE_DIR / "cloud" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {"default": env.dj_db_url("CUMULET_DATABASE_URL", conn_max_age=60)}
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Broker of control itself; the management API makes the hosts' users; the last is the address
# under which hosts reach the broker (it goes into join bundles).
BROKER_URL = env.str("CUMULET_BROKER_URL", "amqp://127.0.0.1:5672/cumulet")
BROKER_API_URL = env.str("CUMULET_BROKER_API_URL", "http://127.0.0.1:15672")
HOST_BROKER_URL = env.str("CUMULET_HOST_BROKER_URL", BROKER_URL)

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = env.path("CUMULET_STATIC_ROOT", BASE_DIR / ".cumulet" / "static")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGGING_CONFIG = None
logging_config(
    env.str("CUMULET_LOG_FORMAT", None),
    env.str("CUMULET_LOG_LEVEL", "INFO"),
    service=env.str("CUMULET_SERVICE", "control"),
)
# cloud.middleware logs every request; Django would log refused ones a second time.
logging.getLogger("django.request").setLevel(logging.ERROR)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "cloud.api.authentication.BearerToken",
        "cloud.api.authentication.StaffSession",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["cloud.api.permissions.InProject"],
    "DEFAULT_PARSER_CLASSES": ["cloud.api.bodies.JsonObject"],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "cloud.api.bodies.Page",
    ],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "cloud.api.bodies.JsonFirst",
    "DEFAULT_PAGINATION_CLASS": "cloud.api.pagination.Pages",
    "DEFAULT_FILTER_BACKENDS": [
        "django_filters.rest_framework.DjangoFilterBackend",
        "cloud.api.filters.Sort",
    ],
    "DEFAULT_SCHEMA_CLASS": "cloud.api.schema.ContractSchema",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "cloud.api.errors.answer",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Cumulet",
    "DESCRIPTION": "A private cloud that speaks the Hetzner Cloud API.",
    "VERSION": VERSION,
    "SCHEMA_PATH_PREFIX": "/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "ENUM_NAME_OVERRIDES": {
        "IpTypeEnum": "networks.models.IpType",
        "AssigneeTypeEnum": ["server"],
        "SubnetTypeEnum": "networks.models.Subnet.Type",
        "SubnetTypeRequestEnum": ["cloud", "server", "vswitch"],
        "ForwardedProtocolEnum": "vms.interfaces.ForwardedPort.Protocol",
        "FirewallTargetEnum": ["server", "label_selector"],
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# Scheduling. A host is silent after HOST_SILENT_SECONDS without a heartbeat; its VMs are then
# "unknown", never "off". CPU may be promised several times over, memory and disk may not.
HOST_SILENT_SECONDS = env.float("CUMULET_HOST_SILENT_SECONDS", 30.0)
CPU_OVERCOMMIT = env.float("CUMULET_CPU_OVERCOMMIT", 8.0)
SWEEP_SECONDS = env.float("CUMULET_SWEEP_SECONDS", 3.0)
# Who may read /metrics from another machine; without it just operators, by their API tokens.
METRICS_TOKEN = env.str("CUMULET_METRICS_TOKEN", "")
API_REQUESTS_PER_HOUR = env.int("CUMULET_API_REQUESTS_PER_HOUR", 3600)

# Networks that hosts and control talk through; pools of public addresses keep off them. How many
# public IPs a project may have of each kind.
FABRIC: list[IPv4Network | IPv6Network] = env.list("CUMULET_FABRIC", [], subcast=ip_network)
PROJECT_PRIMARY_IPS = env.int("CUMULET_PROJECT_PRIMARY_IPS", 1000)
PROJECT_FLOATING_IPS = env.int("CUMULET_PROJECT_FLOATING_IPS", 100)

# The mesh that private networks go through: IPv4 addresses of hosts inside it, the UDP port that
# they listen on, and the MTU of the networks between them, in bytes; None: that of each host's
# uplink, which is right where all have the same. How many networks a project may have, and the
# resolvers of servers that have no public address.
TUNNEL_RANGE = env.str("CUMULET_TUNNEL_RANGE", "100.64.0.0/16")
TUNNEL_PORT = env.int("CUMULET_TUNNEL_PORT", 51820)
FABRIC_MTU: int | None = env.int("CUMULET_FABRIC_MTU", None)
PROJECT_NETWORKS = env.int("CUMULET_PROJECT_NETWORKS", 100)
RESOLVERS: list[str] = env.list("CUMULET_RESOLVERS", [])
