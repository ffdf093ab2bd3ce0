"""How often somebody may try a password, and from where.

Every try is counted before the password is looked at, for unknown accounts as well; one that
succeeds is given back. Three buckets, all shared by all web processes:

- an address, whatever account it tries: who tries many accounts;
- an account from an address: who tries many passwords;
- an account from all addresses: who has many addresses. Strangers could keep the real owner out
  with this one, so a browser that logged in before carries a signed cookie, and is counted by that
  alone. A stolen cookie opens nothing: it still needs the password.

Nothing is locked: every bucket fills again, and whoever is refused is told when to come back.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from cloud import buckets
from cloud.buckets import Level, Size

# Tries at once, and in an hour. A person mistypes a few times; a program tries thousands.
PER_ADDRESS: Final = Size(burst=30, an_hour=60)
PER_ACCOUNT_THERE: Final = Size(burst=5, an_hour=20)
PER_ACCOUNT: Final = Size(burst=20, an_hour=60)
PER_DEVICE: Final = Size(burst=10, an_hour=60)


@dataclass(frozen=True)
class Attempt:
    """Somebody at `address` says to be `account`. `device`: that the account's owner logged in
    with before, None for all others.
    """

    account: str
    address: str
    device: str | None = None

    @property
    def _buckets(self) -> dict[str, Size]:
        account = _digest(unicodedata.normalize("NFKC", self.account).casefold())
        if self.device:
            return {f"login:device:{_digest(self.device)}": PER_DEVICE}
        place = _place(self.address)
        return {
            f"login:address:{place}": PER_ADDRESS,
            f"login:there:{account}:{place}": PER_ACCOUNT_THERE,
            f"login:account:{account}": PER_ACCOUNT,
        }

    def begin(self) -> Level | None:
        """Count the try; the bucket that refuses it, None if it may be made.

        What the others granted is not given back: who goes on trying waits the longer.
        """
        for key, size in self._buckets.items():
            level = buckets.take(key, size)
            if not level.allowed:
                return level
        return None

    def succeeded(self) -> None:
        """The try was no mistake: do not count it."""
        for key, size in self._buckets.items():
            buckets.give_back(key, size)


def _place(address: str) -> str:
    """Where tries come from: of IPv6 the network, as one machine has 2^64 addresses there."""
    try:
        known = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(known, IPv6Address):
        if known.ipv4_mapped:
            return str(known.ipv4_mapped)
        return str(ip_network((known, 64), strict=False))
    return str(known)


def _digest(text: str) -> str:
    """Of any length and any characters; nobody reads names that were never accounts."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]
