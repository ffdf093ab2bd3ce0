"""Whether the host's uplink is in a bridge: made so at every start, before any guest.

The operator decides (CUMULET_HOST_BRIDGE), because it touches the host's own network. Agent and
monitor both begin with `ensure`; so does a step that needs the bridge. What is under way is on
disk, with all that takes it back: a process that is killed in the midst leaves that to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
import structlog
from msgspec import Struct

from cloud import files
from cloud.errors import CumuletError
from cloud.wire import known
from networks.host import bridge, bridge_firewall, bridge_plan, nft
from networks.host.bridge_plan import Operation
from vms.host.host import Host

log = structlog.get_logger(__name__)


class NotBridged(CumuletError):
    """A guest is to be bridged, and this host's uplink is in no bridge."""

    code: ClassVar[str] = "host_not_bridged"


class _Record(Struct, frozen=True):
    """`under_way`: operations of which any may have been done, since this boot of the host."""

    uplink: str
    boot_id: str
    under_way: tuple[Operation, ...] = ()


def prepare(host: Host) -> None:
    """`ensure` at a start: a host whose uplink cannot be moved still serves its other guests."""
    if not host.routes_networks:
        return
    try:
        ensure(host)
    except (CumuletError, OSError):
        log.exception("uplink left as it is")


def ensure(host: Host) -> None:
    """Make the host bridged, or not, as configured; mend it, or nothing, if it is so already.

    Raises NoUplink, CannotBridge, BridgeFailed, BridgeInUse or CommandError.
    """
    with files.locked(host.paths.locks / "bridge"):
        record = _settled(host)
        if host.config.bridge and not bridge.exists():
            before = record.uplink if record else None
            operations = bridge.joining(host.config.uplink or before)
            _carry_out(host, bridge.uplink_of(operations), operations)
            log.info("bridged", uplink=bridge.uplink_of(operations))
        elif record and host.config.bridge:
            if bridge.rejoin(record.uplink):
                log.warning("uplink was no port of the bridge any more", uplink=record.uplink)
        elif record:
            if bridge.exists():
                _carry_out(host, record.uplink, bridge.leaving(record.uplink))
                nft.apply(bridge_firewall.no_host_rules())
                log.info("not bridged any more", uplink=record.uplink)
            host.paths.bridge.unlink()


def require(host: Host) -> None:
    """Before a guest is bridged. Raises NotBridged, or as `ensure` does."""
    if not host.config.bridge:
        raise NotBridged(
            "the server has a bridged address and this host's uplink is in no bridge: set"
            " CUMULET_HOST_BRIDGE=on for its agent and monitor and restart them (the host's own"
            " addresses then move to the bridge), or place the server elsewhere"
        )
    ensure(host)


def _settled(host: Host) -> _Record | None:
    """What is known of the bridge, after a change that was broken off has been taken back."""
    record = _read(host)
    if record is None or not record.under_way:
        return record
    over = bridge_plan.is_over(record.under_way, bridge_exists=bridge.exists())
    if record.boot_id == host.boot_id and not over:
        log.warning("change of the uplink was broken off, taking it back", uplink=record.uplink)
        bridge.take_back(record.under_way)
    return write(host, record.uplink)


def _carry_out(host: Host, uplink: str, operations: list[Operation]) -> None:
    write(host, uplink, operations)
    try:
        bridge.carry_out(operations)
    except bridge.BridgeHalfMade:
        raise  # what is on disk takes the rest back at the next attempt
    except bridge.BridgeFailed:
        write(host, uplink)
        raise
    write(host, uplink)


def _read(host: Host) -> _Record | None:
    try:
        return msgspec.json.decode(host.paths.bridge.read_bytes(), type=known(_Record))
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        log.warning("record of the bridge lost", path=str(host.paths.bridge), reason=str(error))
        return None


def write(host: Host, uplink: str, under_way: Sequence[Operation] = ()) -> _Record:
    """Note which uplink is in the bridge, and what is about to be done with it."""
    record = _Record(uplink, host.boot_id, tuple(under_way))
    files.write(host.paths.bridge, msgspec.json.encode(record))
    return record
