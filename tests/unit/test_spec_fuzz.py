"""Whatever a document says: it is refused as a whole, or nothing in it leaves its place.

A document with everything in it is changed at random leaves to what a thief of control's broker
user could put there. What still decodes must make the command line, the paths and the texts that
its honest twin makes, but for values that stay values.
"""

from __future__ import annotations

import json
import re
from copy import deepcopy
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from cloud.wire import MalformedDocument, decode, encode
from networks.host import bridge_rules, cables, dhcp, firewall, private_rules, rules
from networks.host.cables import Kit
from networks.host.links import Tap
from networks.spec import (
    CableSpec,
    CablesSpec,
    FirewallSpec,
    ForwardSpec,
    NetworkSpec,
    PeerSpec,
    RouteSpec,
    RuleSpec,
)
from tests.documents import HOST_UUID, INITRD, KERNEL, SPEC, a_spec
from tests.unit.test_private_plan import NETWORK
from vms.host import netdevs, paths, seed
from vms.host.command import command
from vms.host.paths import HostPaths
from vms.spec import DiskSpec, VmSpec

pytestmark = pytest.mark.faults

PLACES = HostPaths(Path("/state"), Path("/run/h1"))
HASH = "$2b$12$" + "a" * 53
FIREWALL = FirewallSpec((RuleSpec("in", "tcp", ("203.0.113.0/24",), (22, 80)),))
FULL = a_spec(
    image=structs.replace(SPEC.image, kernel=KERNEL, initrd=INITRD, cmdline="console=ttyS0"),
    disks=(*SPEC.disks, DiskSpec(disk_id=71, index=1, size_gb=5)),
    nics=(
        structs.replace(
            SPEC.nics[0],
            ipv6="2001:db8::/64",
            floating=("203.0.113.7",),
            firewall=FIREWALL,
            mbit_in=10,
            mbit_out=10,
        ),
        structs.replace(SPEC.nics[0], nic_id=6, index=1, mode="private", network_id=5),
        structs.replace(
            SPEC.nics[0],
            nic_id=7,
            index=2,
            mode="user",
            forwards=(ForwardSpec("tcp", 30000, 22),),
            routes=("10.0.0.0/8",),
        ),
        structs.replace(
            SPEC.nics[0],
            nic_id=8,
            index=3,
            mode="public_bridged",
            prefix4=24,
            gateway="198.51.100.1",
            leased_from="198.51.100.0/24",
        ),
    ),
    user_data="#cloud-config\n{}\n",
    root_password_hash=HASH,
)
MESH = structs.replace(
    NETWORK,
    routes=(RouteSpec("192.168.0.0/16", "10.0.1.13"),),
    peers=(*NETWORK.peers, PeerSpec(HOST_UUID, "a" * 43 + "=", "100.64.0.9", "192.0.2.9:51820")),
    cables=CablesSpec(3, uplink=CableSpec("h9", "192.0.2.11:51821"), accepts=("r1", "r2")),
)
KIT = Kit(Path("/run/a.pem"), Path("/run/i.pem"), "6d61726b", Path("/run/sockets"), 51821)

HOSTILE = (
    "../../etc/passwd", "/etc/passwd", "..", ".", "", "\0", "a\0b", "a\nb", "a\r\nb", "\u2028",
    "web-1,readonly=off", "web,,x", "-drive", "-incoming exec:id", "--help", "$(id)", "`id`", ";id",
    "'", '"', "\\", "a b", "a\tb", "%s", "{}", "}\ntable x { }", "; flush ruleset", "#",
    "\n#include",
    "1.2.3.4\n5.6.7.8", "1.2.3.4,set:x", "::", "::::", "0.0.0.0/0", "1.2.3.4/33", "::1/129",
    "[::1]:0", "1.2.3.4:99999", "accept = 1", "\nexec = /bin/sh", "[x]", "json:{}", "fd:3", "nbd:x",
    "file:///etc/shadow", "file:///../..", "http://", "https://x/\n", "data:,x", "h1.evil", "H1",
    "\u0430dmin", "\ud800", "x" * 5000, "$y$" + "a" * 20, "$1$'; id #" + "a" * 9, "- a", "a: b",
    "ssh-ed25519 AAAA x\nssh-rsa BBBB y", "!!python/object/apply:os.system [id]", "!include x",
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=40),
    st.from_regex(r"[A-Za-z0-9.,:/=\[\]{}$ \n-]{0,24}", fullmatch=True),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**200]),
    st.none() | st.booleans() | st.floats(),
    st.just([]) | st.just({}) | st.lists(st.sampled_from(HOSTILE), max_size=3),
)


def leaves(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value that is no table and no list."""
    if isinstance(document, dict):
        return [one for key, inner in document.items() for one in leaves(inner, (*path, key))]
    if isinstance(document, list | tuple) and document:
        return [one for key, inner in enumerate(document) for one in leaves(inner, (*path, key))]
    return [path]


@st.composite
def changed(draw: Any, honest: Any) -> dict[str, Any]:
    """The document with up to three of its values changed."""
    document: dict[str, Any] = deepcopy(json.loads(json.dumps(encode(honest))))
    for path in draw(st.lists(st.sampled_from(leaves(document)), min_size=1, max_size=3)):
        place = document
        try:
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = draw(VALUES)
        except (TypeError, KeyError, IndexError):
            continue  # an earlier change took the place away
    return document


def accepted(document: dict[str, Any], kind: Any) -> Any:
    """The typed document, None if it was refused, which is always by MalformedDocument."""
    try:
        return decode(document, kind)
    except MalformedDocument:
        return None


FLAGS = {"-nodefaults", "-no-user-config"}
# Every option with the keys that its value may have; None: the value is one word.
OPTIONS: dict[str, set[str] | None] = {
    "-sandbox": {"", "obsolete", "elevateprivileges", "spawn", "resourcecontrol"},
    "-name": {"guest", "debug-threads"},
    "-uuid": None,
    "-machine": {"", "hpet", "smm", "vmport", "sata", "usb"},
    "-accel": {"", "thread", "tb-size"},
    "-cpu": None,
    "-smp": {"cpus"},
    "-m": {"size"},
    "-display": None,
    "-rtc": {"base"},
    "-boot": {"menu", "strict"},
    "-global": None,
    "-action": {"shutdown"},
    "-pidfile": None,
    "-chardev": {"", "id", "path", "server", "wait", "append"},
    "-mon": {"chardev", "mode"},
    "-blockdev": {"driver", "node-name", "filename", "read-only", "file", "backing", "discard"},
    "-device": {
        "", "drive", "serial", "bootindex", "id", "chassis", "io-reserve", "multifunction", "addr",
        "bus", "netdev", "mac", "host_mtu", "romfile", "rng", "chardev", "name",
    },
    "-netdev": {
        "", "id", "ifname", "script", "downscript", "local.type", "local.path", "remote.type",
        "remote.path", "hubid", "netdev", "sock",
    },
    "-object": {"", "id", "filename"},
    "-serial": None,
    "-kernel": None,
    "-initrd": None,
    "-append": None,
}  # fmt: skip
FILES = {"path", "filename", "sock", "local.path", "remote.path"}


def parts(value: str) -> list[tuple[str, str]]:
    """As QEMU splits it: at single commas, of which two stand for one in a value."""
    words = re.split(r"(?<!,),(?!,)", value.replace(",,", "\0"))
    found = [word.replace("\0", ",").partition("=") for word in words]
    return [(key if equals else "", rest if equals else key) for key, equals, rest in found]


def options(argv: list[str]) -> list[tuple[str, str]]:
    words = iter(argv[1:])
    return [(word, "" if word in FLAGS else next(words)) for word in words]


def inside(path: str) -> bool:
    """Below one of the two directories of the host, without a way out."""
    place = Path(path)
    return ".." not in place.parts and (
        place.is_relative_to(PLACES.state) or place.is_relative_to(PLACES.run)
    )


@settings(max_examples=400, deadline=None)
@given(changed(FULL), st.sampled_from(["kvm", "tcg"]), st.sampled_from([netdevs.tap, netdevs.vde]))
@example({**encode(FULL), "hostname": "a" * 128}, "tcg", netdevs.tap)
@example({**encode(FULL), "user_data": "\ud800"}, "kvm", netdevs.tap)
def test_no_document_adds_an_option_to_the_command_line(
    document: dict[str, Any], accelerator: Any, wiring: Any
) -> None:
    spec = accepted(document, VmSpec)
    if spec is None:
        return
    argv = command(spec, PLACES.vm(spec.vm_id), accelerator, wiring)
    assert all("\0" not in word and "\n" not in word for word in argv)
    for option, value in options(argv):
        if option in FLAGS:
            continue
        allowed = OPTIONS[option]
        if allowed is not None:
            assert {key for key, _ in parts(value)} <= allowed, (option, value)
            for key, word in parts(value):
                assert key not in FILES or word == "/dev/urandom" or inside(word), word
    told = dict(options(argv))
    assert dict(parts(told["-name"]))["guest"] == spec.hostname
    assert told.get("-append", "") == (spec.image.cmdline if spec.image.kernel else "")
    assert all(inside(told[key]) for key in ("-pidfile", "-kernel", "-initrd") if key in told)


@settings(max_examples=300, deadline=None)
@given(changed(FULL))
def test_no_document_names_a_place_outside_of_the_hosts_own(document: dict[str, Any]) -> None:
    spec = accepted(document, VmSpec)
    if spec is None:
        return
    vm = PLACES.vm(spec.vm_id)
    made = [
        vm.state, vm.spec, vm.seed, vm.run, vm.qmp, vm.lock, vm.console, vm.unsent, vm.log,
        *(vm.disk(disk.index) for disk in spec.disks),
        *(vm.frames(nic.index) for nic in spec.nics),
        *vm.outlets,
        *(PLACES.image(file.sha256) for file in spec.image.files),
        *(PLACES.switch(nic.network_id) for nic in spec.nics if nic.network_id),
        PLACES.tombstone(spec.uuid),
    ]  # fmt: skip
    assert all(inside(str(path)) for path in made)
    assert re.fullmatch(r"cumulet-vm-[0-9a-f-]{36}\.service", paths.unit_name(spec.uuid))
    for name in vm.taps:
        assert re.fullmatch(r"cu[0-9a-z]{1,11}-[0-7]", name)
        assert len(name) <= 15


@settings(max_examples=400, deadline=None)
@given(changed(FULL))
def test_no_document_breaks_out_of_its_seed(document: dict[str, Any]) -> None:
    """JSON is YAML: what is read back is just what was meant, key by key."""
    spec = accepted(document, VmSpec)
    if spec is None:
        return
    files = seed.texts(spec)
    assert set(files) == {"meta-data", "user-data", "vendor-data", "network-config"}
    assert json.loads(files["meta-data"]) == seed.meta_data(spec)
    heading, _, rest = files["vendor-data"].partition("\n")
    assert heading == "#cloud-config"
    vendor = json.loads(rest)
    assert set(vendor) <= {"disable_root", "ssh_pwauth", "chpasswd", "write_files"}
    assert set(json.loads(files["network-config"])["ethernets"]) == {
        f"nic{nic.index}" for nic in spec.nics
    }
    for key in spec.ssh_keys:
        assert len(key.splitlines()) == 1


# What nft's language is made of here; quotes are around names of interfaces alone.
NFT_LINE = re.compile(r"[A-Za-z0-9_ .:/{}()=!<>&|,;@+*-]*")
INTERFACE = re.compile(r'"[a-z0-9-]{1,15}"')


def is_rules(text: str) -> bool:
    return (
        text.count("{") == text.count("}")
        and "include" not in text
        and "flush ruleset" not in text
        and all(NFT_LINE.fullmatch(INTERFACE.sub("", line)) for line in text.splitlines())
    )


@settings(max_examples=300, deadline=None)
@given(changed(FULL))
@example(encode(FULL))
def test_no_document_breaks_out_of_the_rules_or_of_dhcp(document: dict[str, Any]) -> None:
    spec = accepted(document, VmSpec)
    if spec is None:
        return
    for nic in spec.nics:
        name = PLACES.vm(spec.vm_id).tap(nic.index)
        tap = Tap(name, nic, None)
        assert is_rules(rules.nic_rules(name, nic))
        assert is_rules(firewall.nic_rules({name: nic.firewall}))
        if nic.mode == "public_bridged":
            assert is_rules(bridge_rules.nic_rules(name, nic, "02:00:00:00:00:01"))
        if nic.mode == "private":
            assert is_rules(private_rules.nic_rules(name, nic, NETWORK))
        if nic.ipv4 and not nic.dhcp:
            lines = dhcp.host_line(tap).splitlines() + dhcp.option_lines(tap, "h").splitlines()
            assert all(re.fullmatch(r"[A-Za-z0-9:.,/_\[\]-]+", line) for line in lines)
            assert lines[0].startswith(f"{nic.mac},")


@settings(max_examples=300, deadline=None)
@given(changed(MESH))
@example(encode(MESH))
def test_no_network_breaks_out_of_the_file_of_its_cables(document: dict[str, Any]) -> None:
    spec = accepted(document, NetworkSpec)
    if spec is None:
        return
    ends = cables.ends([spec], "r9")
    texts = [cables.calling(end, KIT) for end in ends if end.endpoint]
    accepting = [end for end in ends if end.endpoint is None]
    texts.append(cables.accepting(accepting, KIT))
    honest = re.compile(r"; [^\n]*|\[[A-Za-z0-9.-]+\]|[A-Za-z]+ =[A-Za-z0-9.:/\[\]_= -]*|")
    for text in texts:
        assert all(honest.fullmatch(line) for line in text.splitlines()), text
        assert not re.search(r"(?m)^(exec|execArgs|include|output|chroot|setuid)\b", text)
    assert all(inside(str(PLACES.gateway(spec.network_id))) for _ in ends)
    for member in spec.members:
        assert all(ip_interface(address) for address in member.addresses)


@pytest.mark.parametrize(
    "value",
    ["\ud800", 2**200, -(2**200), {1, 2}, object()],
    ids=["half a character", "huge", "tiny", "a set", "an object"],
)
@pytest.mark.parametrize("field", ["hostname", "user_data", "generation", "surprise"])
def test_what_cannot_be_written_again_is_refused_by_type(field: str, value: Any) -> None:
    with pytest.raises(MalformedDocument):
        decode({**encode(FULL), field: value}, VmSpec)


def test_a_document_without_a_floor_is_refused_by_type() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(MalformedDocument):
        decode({**encode(FULL), "nics": deep}, VmSpec)
