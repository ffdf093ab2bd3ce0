"""libslirp, by ctypes: a guest's network played by a program without any privilege.

Connections of the guest become the program's own, ports of the host lead back. Structures and
functions are those of libslirp.h, version 4 of its configuration (libslirp 4.1 and later).
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import time
from collections.abc import Callable, Collection
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_int,
    c_int64,
    c_size_t,
    c_ssize_t,
    c_uint8,
    c_uint32,
    c_void_p,
)
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, ClassVar

from cloud.errors import CumuletError
from networks.host.outside_filter import Inside

_LIBRARY = "libslirp.so.0"
_CONFIG_VERSION = 4
# SLIRP_POLL_*, which are not poll(2)'s own numbers.
_EVENTS = (
    (1, select.POLLIN),
    (2, select.POLLOUT),
    (4, select.POLLPRI),
    (8, select.POLLERR),
    (16, select.POLLHUP),
)


class SlirpMissing(CumuletError):
    """The library is not installed."""

    code: ClassVar[str] = "slirp_missing"


@dataclass(frozen=True)
class Settings:
    """`guest`: the address that the guest is given. `mtu` in bytes."""

    inside: Inside
    guest: IPv4Address
    hostname: str
    mtu: int


@dataclass(frozen=True)
class Forward:
    """A port of the host, on `address` (0.0.0.0: all of them), that leads to one of the guest."""

    udp: bool
    address: IPv4Address
    port: int
    guest_port: int


class _InAddr(Structure):
    _fields_ = [("s_addr", c_uint32)]


class _In6Addr(Structure):
    _fields_ = [("s6_addr", c_uint8 * 16)]


class _Config(Structure):
    _fields_ = [
        ("version", c_uint32),
        ("restricted", c_int),
        ("in_enabled", c_bool),
        ("vnetwork", _InAddr),
        ("vnetmask", _InAddr),
        ("vhost", _InAddr),
        ("in6_enabled", c_bool),
        ("vprefix_addr6", _In6Addr),
        ("vprefix_len", c_uint8),
        ("vhost6", _In6Addr),
        ("vhostname", c_char_p),
        ("tftp_server_name", c_char_p),
        ("tftp_path", c_char_p),
        ("bootfile", c_char_p),
        ("vdhcp_start", _InAddr),
        ("vnameserver", _InAddr),
        ("vnameserver6", _In6Addr),
        ("vdnssearch", POINTER(c_char_p)),
        ("vdomainname", c_char_p),
        ("if_mtu", c_size_t),
        ("if_mru", c_size_t),
        ("disable_host_loopback", c_bool),
        ("enable_emu", c_bool),
        ("outbound_addr", c_void_p),
        ("outbound_addr6", c_void_p),
        ("disable_dns", c_bool),
        ("disable_dhcp", c_bool),
    ]


_SendPacket = CFUNCTYPE(c_ssize_t, c_void_p, c_size_t, c_void_p)
_GuestError = CFUNCTYPE(None, c_char_p, c_void_p)
_ClockGetNs = CFUNCTYPE(c_int64, c_void_p)
_TimerNew = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p)
_TimerFree = CFUNCTYPE(None, c_void_p, c_void_p)
_TimerMod = CFUNCTYPE(None, c_void_p, c_int64, c_void_p)
_PollFd = CFUNCTYPE(None, c_int, c_void_p)
_Notify = CFUNCTYPE(None, c_void_p)
_InitCompleted = CFUNCTYPE(None, c_void_p, c_void_p)
_TimerNewOpaque = CFUNCTYPE(c_void_p, c_int, c_void_p, c_void_p)
_AddPoll = CFUNCTYPE(c_int, c_int, c_int, c_void_p)
_GetEvents = CFUNCTYPE(c_int, c_int, c_void_p)


class _Callbacks(Structure):
    _fields_ = [
        ("send_packet", _SendPacket),
        ("guest_error", _GuestError),
        ("clock_get_ns", _ClockGetNs),
        ("timer_new", _TimerNew),
        ("timer_free", _TimerFree),
        ("timer_mod", _TimerMod),
        ("register_poll_fd", _PollFd),
        ("unregister_poll_fd", _PollFd),
        ("notify", _Notify),
        ("init_completed", _InitCompleted),
        ("timer_new_opaque", _TimerNewOpaque),
    ]


def require() -> None:
    """Raises SlirpMissing."""
    _load()


class Slirp:
    """One guest's network. `send` takes frames for the guest, and must not raise."""

    def __init__(self, settings: Settings, send: Callable[[bytes], None]) -> None:
        self._library = _load()
        self._polled: list[tuple[int, int]] = []
        self._happened: dict[int, int] = {}
        # The library keeps pointers to all of these.
        self._callbacks = _callbacks(send)
        self._add_poll = _AddPoll(self._note_poll)
        self._get_events = _GetEvents(self._events_of)
        config = _config(settings)
        self._handle = c_void_p(
            self._library.slirp_new(ctypes.byref(config), ctypes.byref(self._callbacks), None)
        )

    def take(self, frame: bytes) -> None:
        """A frame from the guest."""
        self._library.slirp_input(self._handle, frame, len(frame))

    def wait(self, others: Collection[int], milliseconds: int) -> set[int]:
        """Let it work until something happens; which of the `others` can be read from now."""
        limit = c_uint32(milliseconds)
        self._polled.clear()
        self._library.slirp_pollfds_fill(self._handle, ctypes.byref(limit), self._add_poll, None)
        poll = select.poll()
        wanted: dict[int, int] = dict.fromkeys(others, select.POLLIN)
        for descriptor, events in self._polled:
            wanted[descriptor] = wanted.get(descriptor, 0) | events
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        self._happened = dict(poll.poll(limit.value))
        self._library.slirp_pollfds_poll(self._handle, 0, self._get_events, None)
        return {one for one in others if one in self._happened}

    def add(self, forward: Forward) -> None:
        """Raises OSError, mostly because the port is taken."""
        ctypes.set_errno(0)
        refused = self._library.slirp_add_hostfwd(
            *(self._handle, int(forward.udp), _in_addr(forward.address), forward.port),
            *(_in_addr(IPv4Address(0)), forward.guest_port),
        )
        if refused:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def remove(self, forward: Forward) -> None:
        """Connections that came this way go on."""
        self._library.slirp_remove_hostfwd(
            self._handle, int(forward.udp), _in_addr(forward.address), forward.port
        )

    def close(self) -> None:
        self._library.slirp_cleanup(self._handle)

    def _note_poll(self, descriptor: int, events: int, _: object) -> int:
        self._polled.append((descriptor, _translated(events, 0, 1)))
        return len(self._polled) - 1

    def _events_of(self, number: int, _: object) -> int:
        descriptor, _events = self._polled[number]
        return _translated(self._happened.get(descriptor, 0), 1, 0)


def _load() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError as error:
        raise SlirpMissing(
            f"there is no {_LIBRARY} on this host, by which guests reach the outside:"
            " `apt install libslirp0`"
        ) from error
    library.slirp_new.restype = c_void_p
    library.slirp_add_hostfwd.argtypes = [c_void_p, c_int, _InAddr, c_int, _InAddr, c_int]
    library.slirp_remove_hostfwd.argtypes = [c_void_p, c_int, _InAddr, c_int]
    library.slirp_input.argtypes = [c_void_p, c_char_p, c_int]
    return library


def _config(settings: Settings) -> _Config:
    inside = settings.inside
    return _Config(
        version=_CONFIG_VERSION,
        in_enabled=True,
        vnetwork=_in_addr(inside.network.network_address),
        vnetmask=_in_addr(inside.network.netmask),
        vhost=_in_addr(inside.gateway),
        in6_enabled=False,
        vhostname=settings.hostname.encode(),
        vdhcp_start=_in_addr(settings.guest),
        vnameserver=_in_addr(inside.resolver),
        if_mtu=settings.mtu,
        if_mru=settings.mtu,
        disable_host_loopback=True,
        enable_emu=False,
    )


def _callbacks(send: Callable[[bytes], None]) -> _Callbacks:
    def send_packet(frame: int, length: int, _: object) -> int:
        send(ctypes.string_at(frame, length))
        return length

    def nothing(*_: object) -> None:
        """Timers are for IPv6 alone; whoever waits looks at all descriptors anew each time."""

    return _Callbacks(
        send_packet=_SendPacket(send_packet),
        guest_error=_GuestError(nothing),
        clock_get_ns=_ClockGetNs(lambda _: time.monotonic_ns()),
        timer_new=_TimerNew(nothing),
        timer_free=_TimerFree(nothing),
        timer_mod=_TimerMod(nothing),
        register_poll_fd=_PollFd(nothing),
        unregister_poll_fd=_PollFd(nothing),
        notify=_Notify(nothing),
        init_completed=_InitCompleted(nothing),
        timer_new_opaque=_TimerNewOpaque(nothing),
    )


def _in_addr(address: IPv4Address) -> _InAddr:
    return _InAddr(int.from_bytes(address.packed, sys.byteorder))


def _translated(events: int, source: int, target: int) -> int:
    return sum(pair[target] for pair in _EVENTS if events & pair[source])
