"""What the inventory and the played hosts have to agree on. Pure."""

from __future__ import annotations

import uuid
from typing import Final

BOOT_ID: Final = "00000000-0000-4000-8000-000000000000"
# Of the report that every server is in the inventory with.
FIRST_SEQ: Final = 1_700_000_000_000


def uuid_of(host: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, host))
