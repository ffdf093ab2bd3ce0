"""A NIC's place in a private network: what `networks.host.nics` calls for such a TAP."""

from __future__ import annotations

from typing import Any

from networks.host import links, overlay, plan, private_rules
from networks.host.links import Tap, index_of


def connect(netlink: Any, tap: Tap) -> None:
    """Raise the TAP and put it into its network's bridge, which has to be there."""
    assert tap.network is not None, "the caller knows the network"
    name = plan.names(tap.network.network_id)
    netlink.link("set", index=index_of(netlink, tap.name), address=links.host_mac(tap.nic))
    overlay.ensure_port(netlink, tap.name, index_of(netlink, name.bridge), tap.nic.mtu)
    overlay.enter(netlink, tap.name, tap.nic.mac)


def is_connected(netlink: Any, tap: Tap) -> bool:
    if tap.network is None:
        return False
    name = plan.names(tap.network.network_id)
    bridge = index_of(netlink, name.bridge)
    return (
        bridge is not None
        and overlay.is_port(netlink, tap.name, bridge)
        and overlay.knows(netlink, name, tap.name, tap.nic.mac)
    )


def cut(netlink: Any, tap: str) -> None:
    """Nothing passes any more, whether or not the guest has let go of its NIC."""
    index = index_of(netlink, tap)
    if index is not None:
        netlink.link("set", index=index, master=0, state="down")


def nic_text(tap: Tap) -> str:
    if tap.network is None:
        return ""
    made_in = f"# network {tap.network.vni} of {tap.network.tunnel_ip}\n"
    return made_in + private_rules.nic_rules(tap.name, tap.nic, tap.network)
