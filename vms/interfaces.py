"""The network interfaces of servers, and which addresses lead to them.

A server's public interface has index 0, an interface in a private network one from 1 to 7. Their
models belong to `vms.models`, which everybody imports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint
from netfields import InetAddressField

from cloud.snapshots import Policy, audited
from networks.addressing import new_mac
from networks.models import FloatingIp, Network, PrimaryIp, PrivateNetwork

if TYPE_CHECKING:
    from cloud.models import Project

PUBLIC_INDEX: Final = 0
# The wire contract's bound of `NicSpec.index`.
LAST_INDEX: Final = 7
PRIVATE_MODE: Final = "private"
USER_NIC: Final = "user"
_PORT: Final = (MinValueValidator(1), MaxValueValidator(65535))


class NicManager(models.Manager["Nic"]):
    """A NIC is always read with its addresses, so lists of servers need one query for all."""

    def get_queryset(self) -> models.QuerySet[Nic]:
        return (
            super()
            .get_queryset()
            .select_related(
                "ipv4__address__network", "ipv6__address__network", "dhcp_network", "network"
            )
        )


@audited(
    Policy(
        "nic",
        ("attach", "detach", "change_alias_ips", "change_forwarded_ports"),
        unrecorded=("learned", "dropped"),
        derived=("private_ips", "forwarded_ports"),
    )
)
class Nic(models.Model):
    """A network interface of a VM: in a private network, with public addresses, or behind its host.

    All its public addresses are of pools of one mode; without any it does not exist on the host,
    but keeps its MAC for the next one. A private one comes and goes with its membership.
    """

    vm = models.ForeignKey("vms.VM", models.CASCADE, related_name="nics")
    index = models.PositiveSmallIntegerField(default=0)
    mac = models.CharField(max_length=17, unique=True, default=new_mac)
    ipv4 = models.OneToOneField(
        PrimaryIp, models.PROTECT, null=True, blank=True, related_name="nic4"
    )
    ipv6 = models.OneToOneField(
        PrimaryIp, models.PROTECT, null=True, blank=True, related_name="nic6"
    )
    dhcp_network = models.ForeignKey(
        Network,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="dhcp_nics",
        help_text="The pool whose outside DHCP gives it an address.",
    )
    network = models.ForeignKey(
        PrivateNetwork, models.PROTECT, null=True, blank=True, related_name="nics"
    )
    behind_host = models.BooleanField(
        default=False,
        help_text="It has no address outside: ports of its host's own address lead to it.",
    )
    # Written by reports of the host, as it saw them.
    learned = models.JSONField(default=list, blank=True, editable=False)
    dropped = models.JSONField(default=dict, blank=True, editable=False)

    objects = NicManager()

    class Meta:
        ordering = ["index"]
        verbose_name = "NIC"
        constraints = [
            UniqueConstraint(fields=["vm", "index"], name="nic_index_unique"),
            CheckConstraint(
                name="nic_mac_form",
                condition=Q(mac__regex=r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$"),
            ),
            UniqueConstraint(fields=["vm", "network"], name="nic_once_in_a_network"),
            CheckConstraint(
                name="nic_is_public_or_private",
                condition=Q(index=PUBLIC_INDEX, network=None)
                | Q(
                    index__gt=PUBLIC_INDEX,
                    index__lte=LAST_INDEX,
                    network__isnull=False,
                    ipv4=None,
                    ipv6=None,
                    dhcp_network=None,
                ),
            ),
            CheckConstraint(
                name="nic_behind_host_has_no_address",
                condition=Q(behind_host=False)
                | Q(index=PUBLIC_INDEX, ipv4=None, ipv6=None, dhcp_network=None),
            ),
            CheckConstraint(
                name="nic_has_ipv4_from_one_source",
                condition=Q(ipv4=None) | Q(dhcp_network=None),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.vm} nic{self.index}"

    @property
    def project(self) -> Project:
        return self.vm.project

    @property
    def primary_ips(self) -> list[PrimaryIp]:
        return [ip for ip in (self.ipv4, self.ipv6) if ip is not None]

    @property
    def pools(self) -> list[Network]:
        """The pools that its addresses are from, that of IPv4 first."""
        dhcp = [self.dhcp_network] if self.dhcp_network else []
        return [*dhcp, *(ip.address.network for ip in self.primary_ips)]

    @property
    def mode(self) -> str | None:
        """How it is connected; None if it has no address and so does not exist."""
        if self.behind_host:
            return USER_NIC
        if self.network_id is not None:
            return PRIVATE_MODE
        return next((pool.mode for pool in self.pools), None)

    @property
    def private_ips(self) -> list[str]:
        """Its addresses in its private network as text, the alias IPs last."""
        return [str(address) for address in self.addresses.all()] if self.pk else []

    @property
    def private_ip(self) -> str:
        return next(str(one) for one in self.addresses.all() if not one.alias)

    @property
    def alias_ips(self) -> list[str]:
        return [str(one) for one in self.addresses.all() if one.alias]

    @property
    def led_ports(self) -> list[ForwardedPort]:
        """The ports of its host that are to lead to it."""
        return [one for one in self.forwards.all() if one.withdrawn is None] if self.pk else []

    @property
    def forwarded_ports(self) -> list[str]:
        """The same as text."""
        return [str(one) for one in self.led_ports]

    @property
    def leased_ipv4(self) -> str | None:
        """The address that the outside network's own DHCP gave it, once its host saw that."""
        if self.dhcp_network_id is None:
            return None
        return next((text for text in self.learned if ":" not in text), None)

    @property
    def lent(self) -> list[str]:
        """The addresses that are lent to it, as text: primary, then floating, then private."""
        floating = [one.floating_ip.address for one in self.floating.all()]
        public = (*(ip.address for ip in self.primary_ips), *floating)
        return [*(str(address) for address in public), *self.private_ips]


class FloatingAssignmentManager(models.Manager["FloatingAssignment"]):
    """Always read with the address, like NICs."""

    def get_queryset(self) -> models.QuerySet[FloatingAssignment]:
        return super().get_queryset().select_related("floating_ip__address__network")


class FloatingAssignment(models.Model):
    """A floating IP is led to a NIC. Written by `vms.floating_ips` and `vms.attachments` alone."""

    floating_ip = models.OneToOneField(FloatingIp, models.CASCADE, related_name="assignment")
    nic = models.ForeignKey(Nic, models.CASCADE, related_name="floating")

    objects = FloatingAssignmentManager()

    class Meta:
        ordering = ["floating_ip"]

    def __str__(self) -> str:
        return f"{self.floating_ip} at {self.nic_id}"


class PrivateAddress(models.Model):
    """An address of a private network is a server's: the one it got, or an alias IP.

    It can be another server's as soon as the row is gone. No host has to let go of it first, as
    it is the inventory that tells all hosts where frames for an address go.
    """

    network = models.ForeignKey(PrivateNetwork, models.PROTECT, related_name="addresses")
    nic = models.ForeignKey(Nic, models.CASCADE, related_name="addresses")
    ip = InetAddressField(store_prefix_length=False)
    alias = models.BooleanField(default=False)

    class Meta:
        ordering = ["alias", "pk"]
        verbose_name_plural = "private addresses"
        constraints = [
            UniqueConstraint(fields=["network", "ip"], name="private_address_held_once"),
            UniqueConstraint(
                fields=["nic"], condition=Q(alias=False), name="private_address_of_nic"
            ),
        ]

    def __str__(self) -> str:
        return str(self.ip)


class ForwardedPort(models.Model):
    """A port of a host in user mode that leads to a port of a server there. See `vms.ports`.

    `withdrawn`: the server's generation under which the host was told to let go of it, or None.
    Until it proved that, the server may still be reached there, and nobody else gets the port.
    """

    class Protocol(models.TextChoices):
        TCP = "tcp", "TCP"
        UDP = "udp", "UDP"

    host = models.ForeignKey("cloud.Host", models.PROTECT, related_name="forwarded_ports")
    nic = models.ForeignKey(Nic, models.CASCADE, related_name="forwards")
    protocol = models.CharField(max_length=3, choices=Protocol)
    port = models.PositiveIntegerField(validators=_PORT)
    guest_port = models.PositiveIntegerField(validators=_PORT)
    withdrawn = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["protocol", "guest_port"]
        constraints = [
            UniqueConstraint(fields=["host", "protocol", "port"], name="forwarded_port_lent_once"),
            UniqueConstraint(
                fields=["nic", "protocol", "guest_port"], name="guest_port_forwarded_once"
            ),
            CheckConstraint(
                name="forwarded_port_in_range",
                condition=Q(port__range=(1, 65535), guest_port__range=(1, 65535)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.port} to {self.guest_port}/{self.protocol}"
