"""The NoCloud seed: what a guest learns about itself at its first boot, on a disk `cidata`.

https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html. JSON is YAML too, so
nothing is quoted by hand. The texts are made by pure functions; `write_seed` puts them on disk.
"""

from __future__ import annotations

import hashlib
import io
import json
from ipaddress import ip_network
from typing import Any

from pycdlib import PyCdlib

from cloud import files
from networks.host.addresses import spoken_for
from networks.spec import NicSpec
from vms.host.host import Host
from vms.host.paths import VmPaths
from vms.spec import VmSpec

LABEL = "cidata"
_NOTHING_TO_DO = "#cloud-config\n{}\n"
# Where sshd looks before its own configuration; root has no password unless control made one.
_SSHD_ROOT = {
    "path": "/etc/ssh/sshd_config.d/10-cumulet.conf",
    "content": "PermitRootLogin yes\nPasswordAuthentication yes\n",
}


def texts(spec: VmSpec) -> dict[str, str]:
    """The seed's files by name."""
    return {
        "meta-data": _json(meta_data(spec)),
        "user-data": spec.user_data or _NOTHING_TO_DO,
        "vendor-data": "#cloud-config\n" + _json(vendor_data(spec)),
        "network-config": _json(network_config(spec.nics)),
    }


def meta_data(spec: VmSpec) -> dict[str, Any]:
    """A new `instance-id` makes cloud-init set the guest up anew, so it is the VM's UUID."""
    return {
        "instance-id": spec.uuid,
        "local-hostname": spec.hostname,
        "public-keys": list(spec.ssh_keys),
    }


def vendor_data(spec: VmSpec) -> dict[str, Any]:
    """Defaults below the user's own user-data: root is who logs in."""
    config: dict[str, Any] = {"disable_root": False}
    if spec.root_password_hash:
        root = {"name": "root", "password": spec.root_password_hash, "type": "hash"}
        config["ssh_pwauth"] = True
        config["chpasswd"] = {"expire": False, "users": [root]}
        config["write_files"] = [_SSHD_ROOT]
    return config


def network_config(nics: tuple[NicSpec, ...]) -> dict[str, Any]:
    """Version 2. A routed guest's gateways are on no subnet of its, its host answers for them."""
    return {"version": 2, "ethernets": {f"nic{nic.index}": _ethernet(nic) for nic in nics}}


def _ethernet(nic: NicSpec) -> dict[str, Any]:
    config: dict[str, Any] = {
        "match": {"macaddress": nic.mac},
        "set-name": f"eth{nic.index}",
        "mtu": nic.mtu,
    }
    addresses = []
    routes = [{"to": one, "via": nic.gateway, "on-link": True} for one in nic.routes]
    first: list[dict[str, Any]] = []
    if nic.dhcp:
        config["dhcp4"] = True
    elif nic.ipv4:
        addresses.append(f"{nic.ipv4}/{nic.prefix4}")
        first.append({"to": "0.0.0.0/0", "via": nic.gateway, "on-link": True})
    if nic.ipv6:
        network = ip_network(nic.ipv6, strict=False)
        addresses.append(f"{spoken_for(network)}/{network.prefixlen}")
        first.append({"to": "::/0", "via": nic.gateway6, "on-link": True})
    if addresses:
        config["addresses"] = addresses
    if nic.index == 0:
        routes += [one for one in first if one["to"] not in nic.routes]
    if routes:
        config["routes"] = routes
    if nic.dns:
        config["nameservers"] = {"addresses": list(nic.dns)}
    return config


def ensure_seed(host: Host, spec: VmSpec, paths: VmPaths) -> None:
    """Write the seed unless it says this already: NICs may have come or gone since."""
    said = hashlib.sha256(_json(texts(spec)).encode()).hexdigest()
    noted = paths.seed_digest
    if paths.seed.exists() and noted.exists() and noted.read_text() == said:
        return
    write_seed(host, spec, paths)
    noted.write_text(said)


def write_seed(host: Host, spec: VmSpec, paths: VmPaths) -> None:
    """Write the seed in one step. It may hold secrets: only the QEMU user reads it."""
    owner = (host.owner.uid, host.owner.gid) if host.owner else None
    files.write(paths.seed, iso(texts(spec)), mode=0o400, owner=owner, alone=True)


def iso(texts_by_name: dict[str, str]) -> bytes:
    """An ISO 9660 image with Joliet and Rock Ridge names."""
    image = PyCdlib()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    for number, (name, text) in enumerate(texts_by_name.items()):
        content = text.encode()
        image.add_fp(
            io.BytesIO(content),
            len(content),
            iso_path=f"/FILE{number}.;1",
            rr_name=name,
            joliet_path=f"/{name}",
        )
    target = io.BytesIO()
    image.write_fp(target)
    image.close()
    return target.getvalue()


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1) + "\n"
