"""What the hosts of a cloud stand on: root's lab, or the machine of an ordinary user as it is.

`of(instance)` chooses, and nothing else in deploy/ has to know who started the command: the site
says where hosts find the broker, what has to be there before them, and what it lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import psutil

from cloud.errors import CumuletError
from deploy import lab, processes, proxy, shortcomings
from deploy.lab import Lab
from deploy.places import HERE
from deploy.state import Instance
from deploy.supervise import Program

# The first addresses of a pool stay free, so that the first server has an address to remember.
_RESERVED = 9


class RootNeeded(CumuletError):
    """The command line asks for what only root can make."""

    code: ClassVar[str] = "root_needed"


@dataclass(frozen=True)
class Pool:
    name: str
    cidr: str
    reserved: tuple[str, ...]


POOLS = (
    *(
        Pool(name, f"{base}.0/24", tuple(f"{base}.{n}" for n in range(1, _RESERVED + 1)))
        for name, base in (("lab-a", "198.51.100"), ("lab-b", "203.0.113"))
    ),
    Pool("lab-6", "2001:db8:a::/48", ()),
)


class Site(Protocol):
    @property
    def broker(self) -> str:
        """Address and port at which hosts call the broker."""

    @property
    def fabric(self) -> str:
        """The networks that hosts are in, for cloud/settings.py."""

    @property
    def pools(self) -> Sequence[Pool]:
        """The public addresses that lead here."""

    @property
    def enter(self) -> list[str]:
        """The words before a command line that is to reach guests as the world does."""

    def counts(self, hosts: int | None, rootless: int | None) -> tuple[int, int]:
        """How many hosts with and without privileges, where the user said so or not."""

    def shortcomings(self) -> list[str]:
        """What is not to be had here, a line each that says why and what mends it."""

    def title(self, hosts: Sequence[str]) -> str:
        """What `ensure` makes ready."""

    def summary(self, hosts: Sequence[str]) -> str:
        """Which hosts there are and where, for people."""

    def ensure(self, hosts: int, rootless: int) -> None:
        """Make what the hosts stand on. Safe to repeat."""

    def programs(self) -> list[Program]:
        """What has to run beside the control plane; after `ensure`."""

    def ready(self) -> bool:
        """Whether those programs answer."""

    def processes(self) -> list[psutil.Process]:
        """Those that belong here, whatever their environment says."""

    def remove(self) -> None:
        """Leave nothing of what `ensure` made."""


@dataclass(frozen=True)
class LabSite:
    instance: Instance

    @property
    def lab(self) -> Lab:
        return Lab(self.instance.id)

    @property
    def broker(self) -> str:
        return f"{lab.CONTROL}:5672"

    @property
    def fabric(self) -> str:
        return f"{lab.FABRIC},{lab.FABRIC6}"

    @property
    def pools(self) -> Sequence[Pool]:
        return POOLS

    @property
    def enter(self) -> list[str]:
        return self.lab.enter(self.lab.outside)

    def counts(self, hosts: int | None, rootless: int | None) -> tuple[int, int]:
        return (2 if hosts is None else hosts), rootless or 0

    def shortcomings(self) -> list[str]:
        return []

    def title(self, hosts: Sequence[str]) -> str:
        return f"Lab with {len(hosts)} hosts"

    def summary(self, hosts: Sequence[str]) -> str:
        return f"{', '.join(hosts)}   (namespaces {self.lab.namespace(hosts[0])} and so on)"

    def ensure(self, hosts: int, rootless: int) -> None:
        self.lab.ensure(hosts, rootless)
        proxy.prepare(self.instance)

    def programs(self) -> list[Program]:
        return [proxy.program(self.instance)]

    def ready(self) -> bool:
        return proxy.ready(self.instance)

    def processes(self) -> list[psutil.Process]:
        """A guest whose environment was emptied is still in its host's namespace."""
        paths = map(self.lab.path, self.lab.existing())
        return processes.in_namespaces(paths)

    def remove(self) -> None:
        self.lab.remove()


@dataclass(frozen=True)
class OwnSite:
    """One host, which shares machine, network and user with its cloud."""

    instance: Instance

    @property
    def broker(self) -> str:
        return f"127.0.0.1:{self.instance.ports.broker}"

    @property
    def fabric(self) -> str:
        return ""

    @property
    def pools(self) -> Sequence[Pool]:
        return ()

    @property
    def enter(self) -> list[str]:
        return []

    def counts(self, hosts: int | None, rootless: int | None) -> tuple[int, int]:
        if hosts or (rootless or 1) != 1:
            raise RootNeeded(
                "several hosts on one machine are a lab, which needs root: run this with sudo, or"
                " without --hosts and --rootless for one host of your own"
            )
        return 0, 1

    def shortcomings(self) -> list[str]:
        return shortcomings.lines(shortcomings.Facts.of_this_machine(self.instance.run))

    def title(self, hosts: Sequence[str]) -> str:
        return f"Host {', '.join(hosts)} without privileges"

    def summary(self, hosts: Sequence[str]) -> str:
        return f"{', '.join(hosts)}   (this machine, without privileges)"

    def ensure(self, hosts: int, rootless: int) -> None:
        """The machine's network is all that there is."""

    def programs(self) -> list[Program]:
        return []

    def ready(self) -> bool:
        return True

    def processes(self) -> list[psutil.Process]:
        return []

    def remove(self) -> None:
        """Nothing was made."""


def of(instance: Instance) -> Site:
    return LabSite(instance) if HERE.root else OwnSite(instance)
