"""QEMU's command line, word for word, and what no document can do to it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from msgspec import structs

from tests.documents import INITRD, KERNEL, SPEC, a_spec
from vms.host import netdevs
from vms.host.command import Accelerator, command
from vms.host.paths import HostPaths
from vms.spec import DiskSpec, VmSpec

GOLDEN = Path(__file__).parent / "golden"
PATHS = HostPaths(Path("/state"), Path("/run/h1"))

DIRECT_BOOT = a_spec(
    image=structs.replace(SPEC.image, kernel=KERNEL, initrd=INITRD, cmdline="console=ttyS0 a,b=c")
)
TWO_OF_EACH = a_spec(
    disks=(*SPEC.disks, DiskSpec(disk_id=71, index=1, size_gb=5)),
    nics=(
        *SPEC.nics,
        structs.replace(SPEC.nics[0], nic_id=6, index=1, mac="02:00:00:00:00:08", mode="private"),
    ),
    image=structs.replace(SPEC.image, format="raw"),
)


def lines(argv: list[str]) -> str:
    """An option and its value on one line."""
    text = argv[0]
    for word in argv[1:]:
        text += f"\n{word}" if word.startswith("-") else f" {word}"
    return text + "\n"


@pytest.mark.parametrize(
    ("spec", "accelerator", "golden"),
    [
        pytest.param(SPEC, "kvm", "own-loader-kvm.txt", id="own loader on KVM"),
        pytest.param(DIRECT_BOOT, "tcg", "direct-boot-tcg.txt", id="direct boot on TCG"),
        pytest.param(TWO_OF_EACH, "tcg", "two-disks-two-nics.txt", id="two disks, two NICs"),
    ],
)
def test_the_command_line_is_as_written_down(
    spec: VmSpec, accelerator: Accelerator, golden: str
) -> None:
    assert (
        lines(command(spec, PATHS.vm(7), accelerator, netdevs.tap)) == (GOLDEN / golden).read_text()
    )


def test_on_a_host_in_user_mode_nics_hang_on_cables_that_can_be_plugged_in_anew() -> None:
    nics = (
        structs.replace(SPEC.nics[0], mode="user"),
        structs.replace(SPEC.nics[0], nic_id=6, index=1, mode="private", network_id=5),
        structs.replace(SPEC.nics[0], nic_id=8, index=2),
    )
    argv = command(a_spec(nics=nics), PATHS.vm(7), "tcg", netdevs.vde)
    assert [word for option, word in pairwise(argv) if option == "-netdev"] == [
        "dgram,id=nic0-5,local.type=unix,local.path=/run/h1/7/frames-0,"
        "remote.type=unix,remote.path=/run/h1/outlets/7-0/frames",
        "hubport,id=nic1-6,hubid=1",
        "vde,id=nic1-6-plug,sock=/run/h1/networks/5/switch",
        "hubport,id=nic1-6-port,hubid=1,netdev=nic1-6-plug",
        "hubport,id=nic2-8,hubid=2",
        "vde,id=nic2-8-plug,sock=/run/h1/tap-switch",
        "hubport,id=nic2-8-port,hubid=2,netdev=nic2-8-plug",
    ]


def test_a_comma_in_a_path_stays_within_its_value() -> None:
    odd = HostPaths(Path("/state,readonly=on"), Path("/run,x=y"))
    user = a_spec(nics=(structs.replace(SPEC.nics[0], mode="user"),))
    argv = [
        *command(SPEC, odd.vm(7), "tcg", netdevs.tap),
        *command(user, odd.vm(7), "tcg", netdevs.vde),
    ]
    for option, word in pairwise(argv):
        if option in ("-blockdev", "-chardev", "-device", "-netdev"):
            assert ",readonly=on" not in word.replace(",,", "")
            assert ",x=y" not in word.replace(",,", "")


def test_every_block_device_names_its_format_and_nothing_is_guessed() -> None:
    argv = command(TWO_OF_EACH, PATHS.vm(7), "tcg", netdevs.tap)
    assert "-drive" not in argv
    layers = [word for option, word in pairwise(argv) if option == "-blockdev"]
    assert all(layer.startswith(("driver=file", "driver=qcow2", "driver=raw")) for layer in layers)


def test_the_base_image_and_the_seed_are_read_only() -> None:
    argv = command(SPEC, PATHS.vm(7), "tcg", netdevs.tap)
    for name in ("base-file", "base", "seed-file", "seed"):
        (layer,) = [word for word in argv if f"node-name={name}," in word]
        assert layer.endswith("read-only=on")
