"""DHCP for guests that read no seed: one dnsmasq a host, which answers this host's own VMs only.

What it says is rendered by pure functions: one file of each kind for a TAP, so that a VM comes
and goes without the others noticing. The ranges cover all addresses, as only those that a file
gives to a MAC are handed out; so the configuration itself never changes with a VM. The process
outlives whoever started it, drops to Debian's user `dnsmasq` with CAP_NET_ADMIN alone, and is found
again by its pid file and its command line. `vms.host.leases` calls this, one caller at a time.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from cloud import files, shell
from networks.host import processes
from networks.host.bridge_plan import BRIDGE
from networks.host.links import Tap
from networks.spec import NicSpec

_PROGRAM = "dnsmasq"
_START_SECONDS = 10.0
# dnsmasq takes no netmask of nothing at all, so there are two halves of the address space.
_HALVES = ("1.0.0.0", "128.0.0.0")
_HALF_MASK = "128.0.0.0"
_LEASE = "12h"
_BRIDGED = "bridged"
_WORLD = IPv4Network("0.0.0.0/0")
# Where guests with public addresses ask.
PUBLIC = ("cu*", BRIDGE)


def configuration(place: Path, local: Sequence[str], interfaces: Sequence[str] = PUBLIC) -> str:
    """dnsmasq's own. `local`: the host's addresses on the interfaces that guests ask on."""
    lines = [
        "port=0",
        "no-resolv",
        "no-hosts",
        "no-ping",
        "bind-dynamic",
        *(f"interface={name}" for name in interfaces),
        "except-interface=lo",
        # A guest that asks without end fills no disk.
        "quiet-dhcp",
        "dhcp-authoritative",
        # Other guests' networks answer for themselves: nobody unknown is refused here.
        "dhcp-ignore=tag:!known",
        *(f"dhcp-range={half},static,{_HALF_MASK},{_LEASE}" for half in _HALVES),
        *(f"shared-network={address},{half}" for address in local for half in _HALVES),
        # The host has no route to a guest of the bridge that has no address yet.
        f"dhcp-broadcast=tag:{_BRIDGED}",
        f"dhcp-hostsdir={_hosts(place)}",
        f"dhcp-optsdir={_options(place)}",
        f"dhcp-leasefile={place / 'leases'}",
        f"pid-file={_pid(place)}",
        f"log-facility={place / 'log'}",
        "user=dnsmasq",
    ]
    return "".join(f"{line}\n" for line in lines)


def host_line(tap: Tap) -> str:
    """Which address the NIC gets."""
    kind = f"set:{_BRIDGED}," if tap.bridged else ""
    return f"{tap.nic.mac},{kind}set:{tap.name},{tap.nic.ipv4}\n"


def option_lines(tap: Tap, hostname: str) -> str:
    """What else it is told; an option without a value is kept from being sent."""
    nic = tap.nic
    own = IPv4Interface(f"{nic.ipv4}/{nic.prefix4}")
    options = {
        "option:netmask": str(own.netmask),
        "28": str(own.network.broadcast_address),
        "12": hostname.partition(".")[0][:63],
        "option:mtu": str(nic.mtu),
        # With an address of IPv6 among them, dnsmasq would drop them all.
        "option:dns-server": ",".join(server for server in nic.dns if ":" not in server),
        **_routes(nic, own),
    }
    return "".join(
        f"tag:{tap.name},{name}{',' if value else ''}{value}\n" for name, value in options.items()
    )


def _routes(nic: NicSpec, own: IPv4Interface) -> dict[str, str]:
    """Only the first NIC has a default route. A gateway on no subnet needs a route of its own.

    Those come with option 121 (RFC 3442); older Windows takes it from 249, in the same form.
    Who heeds 121 heeds no router.
    """
    gateway = IPv4Address(nic.gateway)
    first = nic.index == 0
    on_link = gateway in own.network and own.network.prefixlen < 32
    led = [(IPv4Network(one, strict=False), gateway) for one in nic.routes if ":" not in one]
    if first and (led or not on_link):
        led.append((_WORLD, gateway))
    if led and not on_link:
        led.insert(0, (IPv4Network(gateway), IPv4Address(0)))
    routes = {"option:router": nic.gateway if first else ""}
    if led:
        routes["121"] = ",".join(f"{network},{hop}" for network, hop in dict.fromkeys(led))
        hexed = b"".join(_packed(network, hop) for network, hop in dict.fromkeys(led))
        routes["249"] = hexed.hex(":")
    return routes


def _packed(network: IPv4Network, hop: IPv4Address) -> bytes:
    significant = network.network_address.packed[: (network.prefixlen + 7) // 8]
    return bytes((network.prefixlen,)) + significant + hop.packed


def serve(place: Path, taps: Iterable[Tap], hostname: str) -> None:
    """Have these NICs answered from now on; who needs no answer is left out."""
    changed = False
    for directory in (place, _hosts(place), _options(place)):
        directory.mkdir(mode=0o755, exist_ok=True)
    for tap in taps:
        if tap.nic.dhcp or not tap.nic.ipv4:
            forget(place, [tap.name])
            continue
        changed |= _write(_options(place) / tap.name, option_lines(tap, hostname))
        changed |= _write(_hosts(place) / tap.name, host_line(tap))
    if changed:
        _read_again(place)


def forget(place: Path, names: Iterable[str]) -> None:
    """Answer these NICs no more."""
    named = [kind(place) / name for name in names for kind in (_hosts, _options)]
    there = [file for file in named if file.exists()]
    for file in there:
        file.unlink()
    if there:
        _read_again(place)


def served(place: Path, prefix: str) -> set[str]:
    """The names that are answered and begin so."""
    return {file.name for file in _hosts(place).glob(f"{prefix}*")}


def ensure_server(place: Path, local: Sequence[str], interfaces: Sequence[str] = PUBLIC) -> None:
    """Run dnsmasq if there is anybody to answer, in the caller's namespace. Raises CommandError."""
    if not _hosts(place).exists() or not any(_hosts(place).iterdir()):
        return
    changed = _write(_conf(place), configuration(place, local, interfaces))
    pid = find(place)
    if pid is not None and changed:
        stop(place)
        pid = None
    if pid is None:
        shell.run([_PROGRAM, _conf_word(place)], timeout=_START_SECONDS)


def find(place: Path) -> int | None:
    """The pid of our dnsmasq. Looks at every process if the pid file does not lead to it."""
    return processes.find(_PROGRAM, _conf_word(place), _pid(place))


def stop(place: Path) -> None:
    """End our dnsmasq; a pid that was used again is never mistaken for it."""
    _signal(place, signal.SIGTERM, wait=True)


def _read_again(place: Path) -> None:
    """It sees new files by itself, not what was in a changed or removed one."""
    _signal(place, signal.SIGHUP, wait=False)


def _signal(place: Path, number: signal.Signals, *, wait: bool) -> None:
    pid = find(place)
    if pid is not None:
        processes.signalled(pid, _PROGRAM, _conf_word(place), number, wait=wait)


def _write(path: Path, text: str) -> bool:
    """Whether that changed anything. dnsmasq passes over names that begin with a dot."""
    if path.exists() and path.read_text() == text:
        return False
    files.write(path, text.encode(), mode=0o644)
    return True


def _conf_word(place: Path) -> str:
    return f"--conf-file={_conf(place)}"


def _conf(place: Path) -> Path:
    return place / "dnsmasq.conf"


def _pid(place: Path) -> Path:
    return place / "pid"


def _hosts(place: Path) -> Path:
    return place / "hosts"


def _options(place: Path) -> Path:
    return place / "options"
