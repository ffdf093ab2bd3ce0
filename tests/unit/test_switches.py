"""A switch's command line, what it says of itself, and orders for what leads guests outside."""

from __future__ import annotations

from pathlib import Path

from networks.host.outside_filter import Forwarded
from networks.host.outside_orders import ForwardOrder, Orders
from networks.host.switch_console import parse_ports
from networks.host.switches import Owner, Switch
from networks.host.traffic import Traffic

SAID = """\
0000 DATA END WITH '.'
Port 0001 untagged_vlan=0000 ACTIVE - Unnamed Allocatable
 Current User: nobody Access Control: (User: NONE - Group: NONE)
 IN:  pkts         12          bytes                  900
 OUT: pkts          7          bytes                  500
  -- endpoint ID 0003 module unix prog   : QEMU user=nobody pid=28912
Port 0002 untagged_vlan=0000 ACTIVE - Unnamed Allocatable
 Current User: NONE Access Control: (User: NONE - Group: NONE)
 IN:  pkts          1          bytes                   60
 OUT: pkts          0          bytes                    0
  -- endpoint ID 0006 module tuntap      : tap-cloud
Port 0003 untagged_vlan=0000 INACTIVE - Unnamed Allocatable
 Current User: NONE Access Control: (User: NONE - Group: NONE)
 IN:  pkts          3          bytes                  180
 OUT: pkts          4          bytes                  240
  -- endpoint ID 0008 module unix prog   : vdeplug: user=nobody pid=1088
.
1000 Success

vde$ """


def test_a_switch_has_its_place_to_itself_and_nobody_elses_settings() -> None:
    assert Switch(Path("/run/h1/networks/5/switch")).argv == [
        *("vde_switch", "--daemon", "--pidfile", "/run/h1/networks/5/switch/pid"),
        *("--rcfile", "/dev/null", "--numports", "4096"),
        *("--sock", "/run/h1/networks/5/switch", "--mode", "600", "--dirmode", "700"),
        *("--mgmt", "/run/h1/networks/5/switch/console", "--mgmtmode", "600"),
    ]


def test_a_switch_of_another_user_with_an_interface() -> None:
    argv = Switch(Path("/s"), "tap-cloud", Owner(7, 7, ("setpriv", "--reuid=7"))).argv
    assert argv[:3] == ["setpriv", "--reuid=7", "vde_switch"]
    assert argv[-2:] == ["--tap", "tap-cloud"]


def test_plugs_are_known_by_their_program_with_what_it_sent_and_received() -> None:
    assert parse_ports(SAID) == {28912: Traffic(7, 12, 500, 900), 1088: Traffic(4, 3, 240, 180)}


def test_a_switch_without_plugs_says_so() -> None:
    assert parse_ports("0000 DATA END WITH '.'\n.\n1000 Success\n") == {}


def test_orders_are_read_as_they_were_written() -> None:
    orders = Orders(
        socket="/run/h1/7/frames-0",
        network="10.0.2.0/24",
        gateway="10.0.2.2",
        resolver="10.0.2.3",
        guest="10.0.2.15",
        hostname="web-1",
        mtu=1500,
        protected=("192.0.2.0/24",),
        forwards=(ForwardOrder("tcp", "0.0.0.0", 30007, 22), ForwardOrder("udp", "::", 1, 53)),
    )
    assert Orders.decode(orders.encode()) == orders
    assert orders.filter.forwarded == Forwarded(frozenset({22}), frozenset({53}))
