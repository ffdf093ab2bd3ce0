"""Private networks: a range of a project's own, divided into subnets, with routes.

Their ranges may overlap, as each is a switch of its own (`vni`). Which servers are members is a
fact about servers, so those rows belong to `vms`. A `Replica` is what one host is told.
"""

from __future__ import annotations

import secrets
from ipaddress import IPv4Address, IPv4Network

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import CheckConstraint, F, Q, UniqueConstraint
from django.utils import timezone
from netfields import CidrAddressField, InetAddressField

from cloud.models import Host, Project
from cloud.snapshots import Policy, audited
from networks.private.cabling import Star
from networks.private.layout import Layout, Way, first_address
from networks.private.querysets import PrivateNetworkQuerySet, ReplicaQuerySet

# VXLAN numbers networks with 24 bits; 0 is not used.
MAX_VNI = 2**24 - 1


def new_vni() -> int:
    """A random one, so that the number of a deleted network does not return soon."""
    return secrets.randbelow(MAX_VNI) + 1


@audited(
    Policy(
        "network",
        (
            "create",
            "update",
            "change_protection",
            "add_subnet",
            "delete_subnet",
            "add_route",
            "delete_route",
            "change_ip_range",
            "delete",
        ),
        unrecorded=("hub", "cable_layout"),
        derived=("subnet_ranges", "route_texts"),
    )
)
class PrivateNetwork(models.Model):
    """A network of a project. A deleted one stays until no host has anything of it."""

    # The API's name for resources of this class.
    resource = "network"

    project = models.ForeignKey(Project, models.PROTECT, related_name="private_networks")
    name = models.CharField(max_length=128)
    labels = models.JSONField(default=dict, blank=True)
    ip_range = CidrAddressField()
    vni = models.PositiveIntegerField(
        "VNI",
        unique=True,
        default=new_vni,
        editable=False,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_VNI)],
    )
    egress = models.BooleanField(
        default=False, help_text="Members without a public address reach the world by their host."
    )
    expose_routes_to_vswitch = models.BooleanField(default=False)
    delete_protection = models.BooleanField(default=False)
    deleting = models.BooleanField(default=False)
    # How its hosts in user mode are joined, see `networks.private.cabling`.
    hub = models.ForeignKey(
        Host, models.SET_NULL, null=True, blank=True, editable=False, related_name="hub_of"
    )
    cable_layout = models.PositiveIntegerField(default=0, editable=False)
    created = models.DateTimeField(default=timezone.now, editable=False)

    objects = PrivateNetworkQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        verbose_name = "private network"
        constraints = [
            # A network that is deleted no longer holds its name.
            UniqueConstraint(
                fields=["project", "name"], condition=Q(deleting=False), name="network_name_unique"
            ),
            CheckConstraint(name="network_vni_in_range", condition=Q(vni__gte=1, vni__lte=MAX_VNI)),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def layout(self) -> Layout:
        """How it is divided; reads related rows."""
        return Layout(
            IPv4Network(str(self.ip_range)),
            tuple(subnet.network_range for subnet in self.subnets.all()),
            tuple(route.way for route in self.routes.all()),
        )

    @property
    def star(self) -> Star:
        return Star(self.hub_id, self.cable_layout)

    @property
    def subnet_ranges(self) -> list[str]:
        return [str(subnet) for subnet in self.subnets.order_by("pk")]

    @property
    def route_texts(self) -> list[str]:
        return [str(route) for route in self.routes.order_by("pk")]


class Subnet(models.Model):
    """A part of a network from which members get addresses. Its first address is the gateway."""

    class Type(models.TextChoices):
        CLOUD = "cloud", "Cloud"
        SERVER = "server", "Server"  # its old name

    network = models.ForeignKey(PrivateNetwork, models.CASCADE, related_name="subnets")
    type = models.CharField(max_length=16, choices=Type, default=Type.CLOUD)
    network_zone = models.CharField(max_length=64)
    ip_range = CidrAddressField()

    class Meta:
        ordering = ["id"]
        constraints = [UniqueConstraint(fields=["network", "ip_range"], name="subnet_unique")]

    def __str__(self) -> str:
        return str(self.ip_range)

    @property
    def network_range(self) -> IPv4Network:
        return IPv4Network(str(self.ip_range))

    @property
    def gateway(self) -> str:
        return str(first_address(self.network_range))


class Route(models.Model):
    """What is for `destination` is sent on to the member that has the address `gateway`."""

    network = models.ForeignKey(PrivateNetwork, models.CASCADE, related_name="routes")
    destination = CidrAddressField()
    gateway = InetAddressField(store_prefix_length=False)

    class Meta:
        ordering = ["id"]
        constraints = [UniqueConstraint(fields=["network", "destination"], name="route_unique")]

    def __str__(self) -> str:
        return f"{self.destination} via {self.gateway}"

    @property
    def way(self) -> Way:
        return Way(IPv4Network(str(self.destination)), IPv4Address(str(self.gateway)))


class Replica(models.Model):
    """What one host is told about one network, and what it said of that.

    `wanted`: it has members there. The row stays when the last one left, because a host refuses a
    generation lower than any that it knows. `digest` is that of the document that was made last,
    so only hosts whose document changed are told.
    """

    network = models.ForeignKey(PrivateNetwork, models.CASCADE, related_name="replicas")
    host = models.ForeignKey(Host, models.CASCADE, related_name="replicas")
    wanted = models.BooleanField(default=True)
    generation = models.PositiveBigIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True)
    request_id = models.CharField(max_length=128, blank=True)

    observed_generation = models.PositiveBigIntegerField(default=0)
    observed_at = models.DateTimeField(null=True, blank=True)
    converged = models.BooleanField(default=False)
    failure_code = models.CharField(max_length=64, blank=True)
    failure_message = models.TextField(blank=True)
    attempts = models.PositiveIntegerField(default=0)
    next_dispatch_at = models.DateTimeField(default=timezone.now)

    objects = ReplicaQuerySet.as_manager()

    class Meta:
        ordering = ["network", "host"]
        constraints = [
            UniqueConstraint(fields=["network", "host"], name="replica_unique"),
            CheckConstraint(
                name="replica_observes_no_future",
                condition=Q(observed_generation__lte=F("generation")),
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_dispatch_at"],
                name="replica_unmet",
                condition=Q(observed_generation__lt=F("generation")) | Q(converged=False),
            ),
            models.Index(
                fields=["observed_at"], name="replica_by_observation", condition=Q(wanted=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.network} on {self.host}"
