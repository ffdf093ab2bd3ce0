"""NicSpec → the netdevs behind a NIC in QEMU, as its `netdev_add` takes them. Pure.

On a host that makes links a NIC is a TAP. On one in user mode it is led to a switch by a cable
inside of QEMU: QEMU does not notice when a switch ends, but a cable can be plugged in anew while
the guest runs, which sees its NIC unmoved. Datagrams to the outside need no such cable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from networks.host.outside_orders import Place
from networks.spec import NicSpec
from vms.host.paths import VmPaths, checked_socket

CARD_PREFIX = "nic"

Netdev = Mapping[str, object]
# What a NIC is led by; the one that is the NIC's own comes first.
Netdevs = Callable[[NicSpec, VmPaths], list[Netdev]]


def card(nic: NicSpec) -> str:
    """What QEMU calls a NIC, on both of its sides: another NIC of the same index is another one."""
    return f"{CARD_PREFIX}{nic.index}-{nic.nic_id}"


def index_of(card: str) -> int:
    return int(card.removeprefix(CARD_PREFIX).partition("-")[0])


def tap(nic: NicSpec, paths: VmPaths) -> list[Netdev]:
    """The TAP exists already."""
    name = paths.tap(nic.index)
    return [{"type": "tap", "id": card(nic), "ifname": name, "script": "no", "downscript": "no"}]


def vde(nic: NicSpec, paths: VmPaths) -> list[Netdev]:
    name = card(nic)
    if nic.mode == "user":
        return [
            {
                "type": "dgram",
                "id": name,
                "local": _unix(paths.frames(nic.index)),
                "remote": _unix(checked_socket(Place(paths.outlet(nic.index)).socket)),
            }
        ]
    return [{"type": "hubport", "id": name, "hubid": nic.index}, *cable(nic, paths)]


def cable(nic: NicSpec, paths: VmPaths) -> list[Netdev]:
    """What leads a NIC that is behind a hub to its switch, and is lost with it."""
    plug, port = cable_names(card(nic))
    return [
        {"type": "vde", "id": plug, "sock": str(switch_place(nic, paths))},
        {"type": "hubport", "id": port, "hubid": nic.index, "netdev": plug},
    ]


def cable_names(card: str) -> tuple[str, str]:
    """Of a NIC's cable: the end in the switch and the end in the hub."""
    return f"{card}-plug", f"{card}-port"


def switch_place(nic: NicSpec, paths: VmPaths) -> Path:
    """Of the switch that a NIC is in, which is not in user mode."""
    if nic.network_id is None:
        return paths.host.tap_switch
    return paths.host.switch(nic.network_id)


def netdev_word(netdev: Netdev) -> str:
    """As QEMU's command line takes it: `type,key=value,...`; commas in values are doubled."""
    kind, *rest = _flat(netdev)
    return ",".join([kind[1], *(f"{key}={value.replace(',', ',,')}" for key, value in rest)])


def _flat(netdev: Netdev, prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, value in netdev.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", str(value)))
    return found


def _unix(path: Path) -> dict[str, str]:
    return {"type": "unix", "path": str(path)}
