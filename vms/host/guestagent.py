"""What the guest's own agent says of its addresses, where the guest has one (qemu-guest-agent).

It is the word of a guest: shown to people, and never a reason to let a frame pass.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct

from cloud.wire import known
from vms.host import qmp

log = structlog.get_logger(__name__)


class _Address(Struct, rename="kebab"):
    ip_address: str


class _Interface(Struct, rename="kebab"):
    hardware_address: str = ""
    ip_addresses: tuple[_Address, ...] = ()


def addresses(socket: Path, mac: str) -> tuple[str, ...]:
    """Those of the guest's interface with this MAC; none if no agent answers, or not in earnest.

    https://qemu.readthedocs.io/en/latest/interop/qemu-ga-ref.html, guest-network-get-interfaces.
    """
    try:
        return usable(qmp.ask_agent(socket, "guest-network-get-interfaces"), mac)
    except (qmp.QmpFailure, msgspec.ValidationError, ValueError) as error:
        log.debug("no word of the guest's agent", socket=str(socket), reason=str(error))
        return ()


def usable(answer: object, mac: str) -> tuple[str, ...]:
    """Those of its addresses that others could call; raises ValidationError or ValueError."""
    interfaces = msgspec.convert(answer, known(list[_Interface]))
    found = (
        ip_address(address.ip_address)
        for interface in interfaces
        if interface.hardware_address.lower() == mac
        for address in interface.ip_addresses
    )
    return tuple(str(one) for one in found if not (one.is_link_local or one.is_loopback))
