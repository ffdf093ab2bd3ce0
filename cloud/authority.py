"""The cloud's own certificate authority: by its certificates hosts know each other in TLS.

It is kept in the database, key included, because the inventory is what is backed up: with it
restored, hosts keep their bundles. A certificate is good as long as the authority. That a host is
cut off stands in none: control tells the others whom they may talk to (`networks.spec.CablesSpec`),
and they hear of a revocation at once. `cloud.hosts` makes the authority and asks it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.db import models
from django.db.models import CheckConstraint, Q
from django.utils import timezone

from cloud.hostconfig import TlsIdentity
from cloud.snapshots import Policy, audited

_LIFE: Final = timedelta(days=100 * 365)
# The clock of a host that joins may be behind.
_EARLIER: Final = timedelta(days=2)


@audited(Policy("authority", ("create",), secret=("key",)))
class Authority(models.Model):
    """There is one row at most. Both texts are PEM."""

    certificate = models.TextField()
    key = models.TextField()
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "authorities"
        constraints = [CheckConstraint(name="authority_is_one", condition=Q(id=1))]

    def __str__(self) -> str:
        return "authority of hosts"

    @classmethod
    def generated(cls) -> Self:
        """A new one, not saved yet."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Cumulet hosts")
        certificate = (
            _draft(name, name, key, until=datetime.now(UTC) + _LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(pk=1, certificate=_pem(certificate), key=_private(key))

    def identify(self, host: str) -> TlsIdentity:
        """A new key, and a certificate of the host's name for both ends of a cable."""
        issuer = x509.load_pem_x509_certificate(self.certificate.encode())
        signer = serialization.load_pem_private_key(self.key.encode(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _draft(_name(host), issuer.subject, key, until=issuer.not_valid_after_utc)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(signer, hashes.SHA256())
        )
        return TlsIdentity(self.certificate, _pem(certificate), _private(key))


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _EARLIER)
        .not_valid_after(until)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(pem, pkcs8, serialization.NoEncryption()).decode()
