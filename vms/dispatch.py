"""Tell a host what it should have. Every message is the whole document, and only a hint."""

from __future__ import annotations

from functools import partial
from typing import Literal, cast

from django.db import transaction

from cloud import logs, requestid
from cloud.celery import hint
from cloud.wire import Cause, encode
from networks.models import Network
from networks.spec import (
    ROUTED_GATEWAY,
    ROUTED_GATEWAY6,
    USER_ADDRESS,
    USER_GATEWAY,
    USER_RESOLVER,
    ForwardSpec,
    NicSpec,
)
from vms.firewalls.effective import effective_firewall
from vms.interfaces import USER_NIC
from vms.models import VM, Image, ImageCopy, Nic
from vms.private.nics import private_nic_spec
from vms.spec import (
    DiskFormat,
    DiskSpec,
    FileSpec,
    ImageFetch,
    ImageSpec,
    PowerGoal,
    VmRemoval,
    VmSpec,
)

Protocol = Literal["tcp", "udp"]


def on_commit(vm: VM) -> None:
    """Send the VM's document once the transaction that changed it is committed."""
    transaction.on_commit(partial(send, vm))


def send(vm: VM) -> bool:
    """Send the VM's desired document to its host; False if the broker is away.

    As long as it is not carried out, it goes under the id of the request that asked for it.
    """
    if vm.converged:
        return _send(vm)
    with (
        requestid.bound(vm.request_id or requestid.now()),
        logs.bound(vm=vm.pk, action_id=vm.action_id),
    ):
        return _send(vm)


def _send(vm: VM) -> bool:
    document: VmSpec | VmRemoval = removal_of(vm) if vm.deleting else spec_of(vm)
    task, wanted = ("vms.remove", "gone") if vm.deleting else ("vms.ensure", vm.goal)
    summary = f"server {vm.name} #{vm.pk}: {wanted}, generation {vm.generation}"
    return hint(vm.host.queue, task, encode(document), summary=summary)


def send_image(copy: ImageCopy, gone: tuple[str, ...] = ()) -> bool:
    """Ask the host to fetch the image, or to remove the files of it whose checksums are in `gone`.

    On the queue that no power button waits behind.
    """
    document = ImageFetch(str(copy.host.uuid), image_spec(copy.image), gone)
    return hint(
        f"{copy.host.queue}.bulk",
        "images.fetch",
        encode(document),
        summary=f"image {copy.image.name} #{copy.image_id}{': gone' if gone else ''}",
    )


def spec_of(vm: VM) -> VmSpec:
    """The whole desired state of a VM that should exist."""
    return VmSpec(
        vm_id=vm.pk,
        uuid=str(vm.uuid),
        host_uuid=str(vm.host.uuid),
        generation=vm.generation,
        hostname=vm.name,
        power=PowerGoal(vm.goal),
        cores=vm.cores,
        memory_mb=vm.memory_mb,
        image=image_spec(vm.image),
        disks=tuple(
            DiskSpec(disk_id=disk.pk, index=disk.index, size_gb=disk.size_gb)
            for disk in vm.disks.all()
        ),
        nics=tuple(nic_spec(vm, nic) for nic in vm.nics.all() if nic.mode),
        ssh_keys=tuple(vm.ssh_keys),
        user_data=vm.user_data,
        root_password_hash=vm.root_password_hash or None,
        reset_serial=vm.reset_serial,
        reboot_serial=vm.reboot_serial,
        provisioned=vm.provisioned,
        cause=cause_of(vm),
    )


def removal_of(vm: VM) -> VmRemoval:
    return VmRemoval(
        vm_id=vm.pk,
        uuid=str(vm.uuid),
        host_uuid=str(vm.host.uuid),
        generation=vm.generation,
        cause=cause_of(vm),
    )


def cause_of(vm: VM) -> Cause | None:
    """Who asked for this generation; None if it is of before anybody noted that."""
    return Cause(vm.request_id, vm.action_id) if vm.request_id else None


def nic_spec(vm: VM, nic: Nic) -> NicSpec:
    """A NIC of the VM that has an address, gets one from outside, or is behind its host."""
    if nic.behind_host:
        return _user_nic_spec(nic)
    return private_nic_spec(vm, nic) if nic.network_id else _public_nic_spec(vm, nic)


def _user_nic_spec(nic: Nic) -> NicSpec:
    return NicSpec(
        nic_id=nic.pk,
        index=nic.index,
        mac=nic.mac,
        mode=USER_NIC,
        ipv4=USER_ADDRESS,
        prefix4=24,
        gateway=USER_GATEWAY,
        dns=(USER_RESOLVER,),
        mtu=1500,
        forwards=tuple(
            ForwardSpec(cast(Protocol, one.protocol), one.port, one.guest_port)
            for one in nic.led_ports
        ),
    )


def _public_nic_spec(vm: VM, nic: Nic) -> NicSpec:
    pool4 = nic.ipv4.address.network if nic.ipv4 else nic.dhcp_network
    pool6 = nic.ipv6.address.network if nic.ipv6 else None
    bridged4 = pool4 is not None and pool4.mode == Network.Mode.BRIDGED
    resolvers = [server for pool in nic.pools for server in pool.dns]
    return NicSpec(
        nic_id=nic.pk,
        index=nic.index,
        mac=nic.mac,
        mode="public_bridged" if nic.mode == Network.Mode.BRIDGED else "public_routed",
        ipv4=str(nic.ipv4.address.ip) if nic.ipv4 else None,
        prefix4=pool4.ip_range.prefixlen if pool4 and bridged4 else 32,
        gateway=_gateway(pool4) or ROUTED_GATEWAY,
        ipv6=str(nic.ipv6.address) if nic.ipv6 else None,
        gateway6=_gateway(pool6) or ROUTED_GATEWAY6,
        dhcp=nic.dhcp_network is not None,
        leased_from=str(nic.dhcp_network.ip_range) if nic.dhcp_network else None,
        floating=tuple(str(one.floating_ip.address) for one in nic.floating.all()),
        dns=tuple(dict.fromkeys(resolvers)),
        firewall=effective_firewall(vm),
        mbit_in=vm.server_type.mbit_in,
        mbit_out=vm.server_type.mbit_out,
    )


def _gateway(pool: Network | None) -> str | None:
    """The pool's own gateway; None where the host is it."""
    return str(pool.gateway) if pool and pool.gateway else None


def image_spec(image: Image) -> ImageSpec:
    boot = {name: FileSpec(**file) for name, file in image.boot_files.items()}
    return ImageSpec(
        image_id=image.pk,
        disk=FileSpec(url=image.url, sha256=image.sha256, bytes=image.bytes),
        format=cast(DiskFormat, image.format),
        kernel=boot.get("kernel"),
        initrd=boot.get("initrd"),
        cmdline=image.cmdline,
    )
