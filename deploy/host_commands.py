"""`deploy/host`: what a machine needs beyond its join bundle, done once by root.

`prepare-tap` lets a host that runs as an ordinary user have public addresses.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import sys
from ipaddress import ip_address, ip_network
from typing import Annotated, ClassVar

import typer
from pyroute2 import IPRoute

from cloud import shell
from cloud.errors import CumuletError
from deploy import prepared_tap
from deploy.prepared_tap import Network, Surroundings, Tap
from networks.host import links
from networks.host.links import Uplink

app = typer.Typer(add_completion=False, no_args_is_help=True)

_SECONDS = 60.0


class NoSuchUser(CumuletError):
    """Nobody is there for whom the TAP could be prepared."""

    code: ClassVar[str] = "user_unknown"


class RootNeeded(CumuletError):
    code: ClassVar[str] = "root_needed"


class NoWayOut(CumuletError):
    """Packets to the pools come in by no interface that is known."""

    code: ClassVar[str] = "uplink_missing"


@app.callback()
def host() -> None:
    """Prepare this machine to be a host."""


@app.command("prepare-tap")
def prepare_tap(
    user: Annotated[str, typer.Argument(help="The user who runs the host's agent.")],
    pool: Annotated[
        list[str] | None, typer.Option(help="Public addresses that lead to this machine; repeat.")
    ] = None,
    uplink: Annotated[
        str | None, typer.Option(help="The interface towards the world: of the default route.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the TAP back.")] = False,
    run: Annotated[bool, typer.Option("--run", help="As root: do it, instead of saying how.")] = (
        False
    ),
) -> None:
    """Print the script that root runs to give a user's host public addresses, or run it."""
    uid = _uid(user)
    name = prepared_tap.name_for(user, uid)
    led = _led_to(name)
    pools = () if remove else prepared_tap.pools(pool or [])
    way = _uplink(uplink)
    prepared_tap.check_surroundings(pools, _surroundings(way))
    former = tuple(network for network in led if network not in pools)
    tap = Tap(user, uid, pools, former, way.name, way.networks)
    script = prepared_tap.removal(tap) if remove else prepared_tap.preparation(tap)
    if run:
        _run(script)
    else:
        print(script, end="")
    _say_what_is_next(tap, remove=remove, run=run)


def _run(script: str) -> None:
    if os.geteuid() != 0:
        raise RootNeeded("only root can make interfaces: run this with sudo, or without --run")
    shell.run(["sh"], input=script, timeout=_SECONDS)


def _say_what_is_next(tap: Tap, *, remove: bool, run: bool) -> None:
    """Beside the script, which may be on its way into a file."""
    if remove:
        notes = [f"{tap.name} is gone" if run else "as root, give this script to sh"]
    else:
        notes = [
            f"{tap.name} is ready"
            if run
            else f"as root, save this as a file such as /usr/local/sbin/{tap.name}, and run it",
            "after a reboot the same has to be run again: a unit of systemd, or a line @reboot in"
            " root's crontab, can do it with a file that only root can write",
            "where the machine's own firewall drops what it forwards, let pass there what comes in"
            f" or goes out by {tap.name}",
            *(f"on the control machine: {line}" for line in prepared_tap.pool_commands(tap)),
        ]
    for note in notes:
        print(f"# {note}", file=sys.stderr)


def _uplink(name: str | None) -> Uplink:
    try:
        with IPRoute() as netlink:
            return links.find_uplink(netlink, name)
    except links.NoUplink as error:
        what, _, _ = error.message.partition(":")
        raise NoWayOut(f"{what}: name the interface towards the world with --uplink") from error


def _surroundings(way: Uplink) -> Surroundings:
    with IPRoute() as netlink:
        configured = list(netlink.get_addr())
        routes = [
            route
            for family in (socket.AF_INET, socket.AF_INET6)
            for route in netlink.get_default_routes(family=family)
        ]
    own = {entry.get_attr("IFA_LOCAL") or entry.get_attr("IFA_ADDRESS") for entry in configured}
    gateways = {route.get_attr("RTA_GATEWAY") for route in routes} - {None}
    uplink = {
        ip_network((entry.get_attr("IFA_ADDRESS"), entry["prefixlen"]), strict=False)
        for entry in configured
        if entry["index"] == way.index
    }
    return Surroundings(
        addresses=tuple(map(ip_address, own)),
        gateways=tuple(map(ip_address, gateways)),
        uplink=tuple(uplink),
        others=tuple(network for network in way.networks if network not in uplink),
    )


def _uid(user: str) -> int:
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise NoSuchUser(f"there is no user {user!r}: make one, or correct the name") from error
    if uid == 0:
        raise NoSuchUser("root's hosts make their own interfaces: name an ordinary user")
    return uid


def _led_to(name: str) -> tuple[Network, ...]:
    """The pools that were led to the TAP, as far as it is there."""
    found: list[Network] = []
    for family in ("-4", "-6"):
        said = shell.run(
            ["ip", "-json", family, "route", "show", "dev", name], timeout=10, ok=(0, 1)
        )
        for route in json.loads(said.stdout or "[]"):
            network = ip_network(route["dst"]) if route["dst"] != "default" else None
            if network is not None and route.get("protocol") != "kernel":
                found.append(network)
    return tuple(found)
