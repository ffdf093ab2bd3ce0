"""Stories told with Debian's hcloud 1.30.3, the oldest client that must work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cloud import shell
from cloud.models import Host
from networks.models import Network
from tests import factories as make
from tests.api.conftest import Api, obedient_host
from tests.db import mesh
from vms.models import VM

pytestmark = pytest.mark.django_db(transaction=True)


class Cli:
    def __init__(self, endpoint: str, token: str, home: Path) -> None:
        self.env = {
            "HCLOUD_ENDPOINT": endpoint,
            "HCLOUD_TOKEN": token,
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
        }

    def __call__(self, *words: str) -> str:
        """What the command prints; raises CommandFailed."""
        return shell.run(["hcloud", *words], timeout=30, env=self.env).stdout

    def refused(self, *words: str) -> str:
        """What the command prints when it fails."""
        result = shell.run(["hcloud", *words], timeout=30, env=self.env, ok=range(1, 256))
        return result.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json"))


@pytest.fixture
def hcloud(api: Api, live_server: Any, tmp_path: Path) -> Cli:
    return Cli(f"{live_server.url}/v1", str(api.token), tmp_path)


@pytest.mark.parametrize(
    ("kind", "columns", "shown"),
    [
        ("server-type", "id,name,cores,memory,disk,storage_type,cpu_type", "nano"),
        ("image", "id,name,type,status,disk_size,image_size,os_flavor,protection", "micro"),
        ("location", "id,name,description,network_zone,country,city,latitude", "lab"),
        ("datacenter", "id,name,location,description", "lab-dc1"),
    ],
)
def test_what_the_cloud_offers_is_listed_and_described(
    hcloud: Cli, kind: str, columns: str, shown: str
) -> None:
    assert shown in hcloud(kind, "list", "-o", f"columns={columns}")
    assert shown in hcloud(kind, "describe", shown)


@pytest.mark.parametrize(
    "kind",
    ["certificate", "firewall", "floating-ip", "iso", "load-balancer", "load-balancer-type",
     "network", "placement-group", "primary-ip", "server", "ssh-key", "volume"],
)  # fmt: skip
def test_every_list_command_works_while_there_is_nothing(hcloud: Cli, kind: str) -> None:
    assert hcloud(kind, "list", "-o", "noheader") == ""


def test_the_life_of_a_server(hcloud: Cli, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(make.SSH_KEY + "\n")
    hcloud("ssh-key", "create", "--name", "mine", "--public-key-from-file", f"{tmp_path}/key.pub")
    with obedient_host():
        out = hcloud("server", "create", "--name", "web-1", "--type", "nano", "--image", "micro",
                     "--ssh-key", "mine", "--location", "lab", "--label", "env=test")  # fmt: skip
        assert "203.0.113.1" in out
        line = hcloud("server", "list", "-l", "env=test", "-o", "noheader").split()
        assert line[1:4] == ["web-1", "running", "203.0.113.1"]
        assert "lab-dc1" in line
        assert "Status:\t\trunning" in hcloud("server", "describe", "web-1")
        assert hcloud("server", "ip", "web-1").strip() == "203.0.113.1"
        for command in ("poweroff", "poweron", "reboot", "reset", "shutdown"):
            hcloud("server", command, "web-1")
        assert hcloud.json("server", "describe", "web-1")["status"] == "off"
        hcloud("server", "add-label", "web-1", "tier=web")
        hcloud("server", "update", "web-1", "--name", "web-2")
        hcloud("server", "enable-protection", "web-2", "delete", "rebuild")
        assert "protected" in hcloud.refused("server", "delete", "web-2")
        hcloud("server", "disable-protection", "web-2", "delete", "rebuild")
        hcloud("server", "delete", "web-2")
    assert not VM.objects.filter(deleting=False).exists()
    hcloud("ssh-key", "delete", "mine")


def test_the_life_of_a_primary_ip(hcloud: Cli) -> None:
    make.pool("2001:db8::/56")
    hcloud("primary-ip", "create", "--name", "kept", "--type", "ipv4", "--datacenter", "lab-dc1")
    with obedient_host():
        hcloud("server", "create", "--name", "web-1", "--type", "nano", "--image", "micro",
               "--primary-ipv4", "kept", "--start-after-create=false")  # fmt: skip
        server = hcloud.json("server", "describe", "web-1")
        assert server["public_net"]["ipv4"]["ip"] == "203.0.113.1"
        assert server["public_net"]["ipv6"]["ip"] == "2001:db8::/64"
        assert "kept" in hcloud("primary-ip", "list")
        assert "assigned" in hcloud.refused("primary-ip", "delete", "kept")
        hcloud("server", "set-rdns", "web-1", "--ip", "203.0.113.1", "--hostname", "a.example.org")
        assert "a.example.org" in hcloud("primary-ip", "describe", "kept")
        hcloud("primary-ip", "unassign", "kept")
        hcloud("primary-ip", "assign", "kept", "--server", "web-1")
        hcloud("server", "delete", "web-1")
    hcloud("primary-ip", "set-rdns", "kept", "--ip", "203.0.113.1", "--hostname", "b.example.org")
    hcloud("primary-ip", "update", "kept", "--name", "mine")
    hcloud("primary-ip", "enable-protection", "mine")
    assert "protected" in hcloud.refused("primary-ip", "delete", "mine")
    hcloud("primary-ip", "disable-protection", "mine")
    hcloud("primary-ip", "delete", "mine")


def test_the_life_of_a_floating_ip(hcloud: Cli) -> None:
    with obedient_host():
        for name in ("old", "new"):
            hcloud("server", "create", "--name", name, "--type", "nano", "--image", "micro")
        hcloud("floating-ip", "create", "--type", "ipv4", "--name", "vip", "--server", "old")
        assert "old" in hcloud("floating-ip", "list", "-o", "noheader")
        hcloud("floating-ip", "assign", "vip", "new")
        assert "Name:\tnew" in hcloud("floating-ip", "describe", "vip").replace("\t\t", "\t")
        hcloud("floating-ip", "set-rdns", "vip", "--hostname", "vip.example.org")
        hcloud("floating-ip", "add-label", "vip", "env=test")
        hcloud("floating-ip", "enable-protection", "vip", "delete")
        hcloud("floating-ip", "disable-protection", "vip", "delete")
        hcloud("floating-ip", "unassign", "vip")
    hcloud("floating-ip", "update", "vip", "--description", "unused")
    hcloud("floating-ip", "delete", "vip")


def test_the_life_of_a_firewall(hcloud: Cli, tmp_path: Path) -> None:
    rules = [{"direction": "out", "protocol": "udp", "port": "53",
              "destination_ips": ["192.0.2.53/32"], "description": "names"}]  # fmt: skip
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    with obedient_host():
        hcloud("server", "create", "--name", "web-1", "--type", "nano", "--image", "micro")
        hcloud("firewall", "create", "--name", "web", "--label", "a=b")
        hcloud("firewall", "add-rule", "web", "--direction", "in", "--protocol", "tcp", "--port",
               "80-443", "--source-ips", "0.0.0.0/0", "--source-ips", "::/0")  # fmt: skip
        hcloud("firewall", "add-rule", "web", "--direction", "in", "--protocol", "icmp",
               "--source-ips", "192.0.2.0/24", "--description", "ping")  # fmt: skip
        hcloud("firewall", "apply-to-resource", "web", "--type", "server", "--server", "web-1")
        described = hcloud("firewall", "describe", "web")
        assert "80-443" in described
        assert "web-1" in described
        server = hcloud.json("server", "describe", "web-1")
        assert [one["status"] for one in server["public_net"]["firewalls"]] == ["applied"]
        assert "in use" in hcloud.refused("firewall", "delete", "web")
        hcloud("firewall", "delete-rule", "web", "--direction", "in", "--protocol", "icmp",
               "--source-ips", "192.0.2.0/24", "--description", "ping")  # fmt: skip
        hcloud("firewall", "replace-rules", "web", "--rules-file", str(tmp_path / "rules.json"))
        (rule,) = hcloud.json("firewall", "describe", "web")["rules"]
        assert (rule["port"], rule["description"]) == ("53", "names")
        hcloud("firewall", "remove-from-resource", "web", "--type", "server", "--server", "web-1")
        hcloud("firewall", "apply-to-resource", "web", "--type", "label_selector",
               "--label-selector", "env=prod")  # fmt: skip
        hcloud("server", "add-label", "web-1", "env=prod")
        hcloud("firewall", "remove-from-resource", "web", "--type", "label_selector",
               "--label-selector", "env=prod")  # fmt: skip
        hcloud("firewall", "update", "web", "--name", "www")
        hcloud("firewall", "add-label", "www", "tier=web")
        assert "www" in hcloud("firewall", "list", "-l", "tier=web", "-o", "noheader")
        hcloud("server", "create", "--name", "web-2", "--type", "nano", "--image", "micro",
               "--firewall", "www")  # fmt: skip
        hcloud("server", "delete", "web-2")
        hcloud("firewall", "delete", "www")


@pytest.mark.rootless
def test_the_life_of_a_server_behind_its_host(hcloud: Cli) -> None:
    Host.objects.all().delete()
    Network.objects.all().delete()
    make.user_host()
    with obedient_host():
        hcloud("server", "create", "--name", "web-1", "--type", "nano", "--image", "micro")
        line = hcloud("server", "list", "-o", "noheader").split()
        assert line[1:3] == ["web-1", "running"]
        assert "Status:\t\trunning" in hcloud("server", "describe", "web-1")
        net = hcloud.json("server", "describe", "web-1")["public_net"]
        assert not (net["ipv4"] or {}).get("ip")
        hcloud("server", "reboot", "web-1")
        hcloud("server", "delete", "web-1")
    assert not VM.objects.filter(deleting=False).exists()


def test_errors_say_what_is_wrong(hcloud: Cli) -> None:
    order = ["server", "create", "--name", "web-1", "--image", "micro", "--type", "nano"]
    assert "not_a_hostname" in hcloud.refused(*order, "--name", "not_a_hostname")
    assert "'server_type': 'huge' not found" in hcloud.refused(*order, "--type", "huge")
    assert "not found" in hcloud.refused("server", "describe", "nobody")
    assert "does not offer" in hcloud.refused("volume", "create", "--name", "v", "--size", "10",
                                              "--location", "lab")  # fmt: skip


def test_the_life_of_a_private_network(hcloud: Cli) -> None:
    Host.objects.update(**mesh.facts(1))
    hcloud("network", "create", "--name", "backend", "--ip-range", "10.0.0.0/16",
           "--label", "env=test")  # fmt: skip
    zone = ("--network-zone", "local")
    hcloud("network", "add-subnet", "backend", "--type", "cloud", *zone,
           "--ip-range", "10.0.1.0/24")  # fmt: skip
    hcloud("network", "add-subnet", "backend", "--type", "server", *zone)
    way = ("--destination", "10.100.0.0/16", "--gateway", "10.0.1.5")
    hcloud("network", "add-route", "backend", *way)
    shown = hcloud.json("network", "describe", "backend")
    assert [one["ip_range"] for one in shown["subnets"]] == ["10.0.1.0/24", "10.0.0.0/24"]
    assert shown["routes"] == [{"destination": "10.100.0.0/16", "gateway": "10.0.1.5"}]
    with obedient_host():
        hcloud("server", "create", "--name", "web-1", "--type", "nano", "--image", "micro",
               "--network", "backend")  # fmt: skip
        (private,) = hcloud.json("server", "describe", "web-1")["private_net"]
        assert private["ip"] == "10.0.1.2"
        hcloud("server", "detach-from-network", "web-1", "--network", "backend")
        hcloud("server", "attach-to-network", "web-1", "--network", "backend",
               "--ip", "10.0.0.9", "--alias-ips", "10.0.0.10")  # fmt: skip
        hcloud("server", "change-alias-ips", "web-1", "--network", "backend", "--clear")
        assert "10.0.0.9" in hcloud("server", "describe", "web-1")
        assert "web-1" not in hcloud("network", "list", "-o", "noheader")
        again = hcloud.refused("server", "attach-to-network", "web-1", "--network", "backend")
        assert "server_already_attached" in again
        hcloud("network", "remove-route", "backend", *way)
        hcloud("network", "remove-subnet", "backend", "--ip-range", "10.0.1.0/24")
        hcloud("network", "change-ip-range", "backend", "--ip-range", "10.0.0.0/8")
        hcloud("network", "enable-protection", "backend", "delete")
        assert "protected" in hcloud.refused("network", "delete", "backend")
        hcloud("network", "disable-protection", "backend", "delete")
        hcloud("network", "update", "backend", "--name", "back")
        hcloud("network", "delete", "back")
    assert hcloud("network", "list", "-o", "noheader") == ""
    assert hcloud.json("server", "describe", "web-1")["private_net"] == []
