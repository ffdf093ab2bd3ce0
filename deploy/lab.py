"""A small world of network namespaces on one machine: the lab.

The *outside* namespace plays the internet. It holds the fabric bridge, the router that hosts
have as default gateway, and control's leg; each host is a namespace with an uplink into the
fabric. Nothing is added to the machine's own network, so labs never meet and no user's
network is changed. `deploy.cloud` runs agents in it; tests use it as a library.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError, netns

from cloud import shell

NAMESPACES = Path("/run/netns")
_LOCK = Path("/run/cumulet.lock")
BRIDGE = "fabric"
UPLINK = "uplink"
PREFIX, PREFIX6 = 24, 64
FABRIC, FABRIC6 = f"192.0.2.0/{PREFIX}", f"2001:db8::/{PREFIX6}"
ROUTER, ROUTER6 = "192.0.2.1", "2001:db8::1"
CONTROL = "192.0.2.2"
# On-link in the fabric: hosts answer ARP and neighbour discovery for their guests.
PUBLIC_POOLS = ("198.51.100.0/24", "203.0.113.0/24", "2001:db8:a::/48")
MAX_HOSTS, MAX_ROOTLESS = 200, 40
_IFA_F_NODAD = 0x02  # linux/if_addr.h
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h, since Linux 5.14; never given again until a reboot
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Lab:
    """The namespaces of one instance, named by its id."""

    id: str

    @property
    def outside(self) -> str:
        return f"cu-{self.id}-out"

    def host(self, number: int) -> str:
        return self.namespace(f"h{number}")

    def rootless(self, number: int) -> str:
        return self.namespace(f"r{number}")

    def namespace(self, host: str) -> str:
        return f"cu-{self.id}-{host}"

    def path(self, namespace: str) -> Path:
        return NAMESPACES / namespace

    def existing(self) -> list[str]:
        """Every namespace of this lab, also of hosts that are no longer wanted."""
        return sorted(name for name in netns.listnetns() if name.startswith(f"cu-{self.id}-"))

    def ensure(self, hosts: int, rootless: int = 0) -> None:
        """Make or complete the outside, `hosts` hosts and as many as said for agents without
        privileges. Safe to repeat; about 0.1 s.
        """
        uplinks = {f"h{n}": uplink_address(n) for n in range(1, hosts + 1)}
        uplinks |= {f"r{n}": rootless_address(n) for n in range(1, rootless + 1)}
        with _namespaces_locked():
            for name in (self.outside, *map(self.namespace, uplinks)):
                _ensure_namespace(name)
        # In a thread of its own: where the caller's runs an event loop, pyroute2 refuses to work.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self._ensure_links, uplinks).result()

    def remove_host(self, name: str) -> None:
        """Take one host away, such as "h2", links and rules included; no process may be in it."""
        with _namespaces_locked():
            _remove_namespace(self.namespace(name))

    def boot_id(self, host: str) -> str:
        """What stands for the kernel's boot id on a host of the lab: another one whenever its
        namespace was made anew, which is how such a host starts.
        """
        # In a thread of its own, which is the only one that enters the namespace.
        with ThreadPoolExecutor(1) as thread:
            cookie = thread.submit(_cookie, self.namespace(host)).result()
        return str(uuid.uuid5(uuid.UUID(_BOOT_ID.read_text().strip()), str(cookie)))

    def remove(self) -> None:
        """Take the lab away; links and rules inside go with the namespaces."""
        with _namespaces_locked():
            for name in self.existing():
                _remove_namespace(name)
            _release_mount_point()

    def enter(self, namespace: str) -> list[str]:
        """The words before a command line that is to run inside."""
        return ["nsenter", f"--net={self.path(namespace)}"]

    def _ensure_links(self, uplinks: Mapping[str, str]) -> None:
        with IPRoute(netns=self.outside) as outside:
            self._ensure_fabric(outside)
            for host, address in uplinks.items():
                self._ensure_host(outside, host, address)

    def _ensure_fabric(self, outside: Any) -> None:
        _ensure_up(outside, "lo")
        if not outside.link_lookup(ifname=BRIDGE):
            outside.link("add", ifname=BRIDGE, kind="bridge", br_forward_delay=0)
        bridge = _ensure_up(outside, BRIDGE)
        for address in (ROUTER, CONTROL, ROUTER6):
            _ensure_address(outside, bridge, address)
        for pool in PUBLIC_POOLS:
            source = ROUTER6 if _family(pool) == socket.AF_INET6 else ROUTER
            outside.route("replace", dst=pool, oif=bridge, prefsrc=source)
        # A router, but one that does not tell hosts about short cuts past it.
        self._sysctl(
            self.outside,
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.all.send_redirects=0",
            f"net.ipv4.conf.{BRIDGE}.send_redirects=0",
            "net.ipv6.conf.all.forwarding=1",
        )

    def _ensure_host(self, outside: Any, port: str, own: str) -> None:
        """`port`: the fabric's, named as the host is; `own`: the host's IPv4 address."""
        name = self.namespace(port)
        with IPRoute(netns=name) as host:
            if not host.link_lookup(ifname=UPLINK):
                if outside.link_lookup(ifname=port):  # its other end went with a namespace
                    outside.link("del", ifname=port)
                peer = {"ifname": UPLINK, "net_ns_fd": name}
                outside.link("add", ifname=port, kind="veth", peer=peer)
            bridge = outside.link_lookup(ifname=BRIDGE)[0]
            outside.link("set", index=_ensure_up(outside, port), master=bridge)
            _ensure_up(host, "lo")
            uplink = _ensure_up(host, UPLINK)
            for address in (own, _twin6(own)):
                _ensure_address(host, uplink, address)
            for router in (ROUTER, ROUTER6):
                host.route("replace", family=_family(router), dst="default", gateway=router)

    def _sysctl(self, namespace: str, *settings: str) -> None:
        shell.run([*self.enter(namespace), "sysctl", "-q", "-w", *settings], timeout=10)


def uplink_address(number: int) -> str:
    """The address of host `number` (from 1) in the fabric."""
    if not 1 <= number <= MAX_HOSTS:
        raise ValueError(f"host {number}: the fabric has room for hosts 1 to {MAX_HOSTS}")
    return f"192.0.2.{10 + number}"


def uplink_address6(number: int) -> str:
    """As `uplink_address`; its last group has the same digits."""
    return _twin6(uplink_address(number))


def rootless_address(number: int) -> str:
    """As `uplink_address`, of hosts whose agent has no privileges."""
    if not 1 <= number <= MAX_ROOTLESS:
        raise ValueError(f"host {number}: the fabric has room for 1 to {MAX_ROOTLESS} without root")
    return f"192.0.2.{10 + MAX_HOSTS + number}"


def _twin6(address: str) -> str:
    return f"2001:db8::{address.rpartition('.')[2]}"


def _ensure_up(links: Any, name: str) -> int:
    index = int(links.link_lookup(ifname=name)[0])
    links.link("set", index=index, state="up")
    return index


def _ensure_address(links: Any, index: int, address: str) -> None:
    six = _family(address) == socket.AF_INET6
    # The lab gives every address out once: to look for a second owner would cost a second.
    how = {"prefixlen": PREFIX6, "flags": _IFA_F_NODAD} if six else {"prefixlen": PREFIX}
    try:
        links.addr("add", index=index, address=address, **how)
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _cookie(namespace: str) -> int:
    """The number of a namespace among all that this kernel has ever had."""
    netns.setns(namespace)
    with socket.socket() as inside:
        return int.from_bytes(inside.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")


def _ensure_namespace(name: str) -> None:
    """A plain file of that name is what a reboot left where /run is on disk."""
    path = NAMESPACES / name
    if path.exists() and not _is_mount_point(path):
        path.unlink()
    if not path.exists():
        netns.create(name)


def _remove_namespace(name: str) -> None:
    path = NAMESPACES / name
    if _is_mount_point(path):
        netns.remove(name)
    path.unlink(missing_ok=True)


def _is_mount_point(path: Path) -> bool:
    """Also true of a bind mount within one file system, which `Path.is_mount` cannot see."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(path) for line in mounts)


@contextmanager
def _namespaces_locked() -> Iterator[None]:
    """Labs of several checkouts share /run/netns and the decision to unmount it."""
    with _LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _release_mount_point() -> None:
    """The first namespace made /run/netns a mount point; the last one takes it away.

    Refused with "busy" while it holds anybody's namespace.
    """
    if _is_mount_point(NAMESPACES) and not any(NAMESPACES.iterdir()):
        shell.run(["umount", NAMESPACES], timeout=10, ok=(0, 32))
