"""Where the real code meets the world: everything that is replaced while a simulation runs."""

from __future__ import annotations

import errno
import io
import json
import os
import random as random_module
import select
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from django.utils import timezone

from cloud import agent, celery, shell
from networks.host import (
    announce,
    census,
    gateway,
    leftovers,
    links,
    namespaces,
    nft,
    nics,
    prepared_tap,
    processes,
    slirp,
    switch_console,
)
from tests.simulation import actors, guests, netfilter, programs
from tests.simulation.netlink import Netlink
from vms.host import accelerator, fetch, kernel_links, networks, qmp, user_mode
from vms.host import host as host_module
from vms.host.accelerator import Verdict
from vms.host.host import Host, Owner

if TYPE_CHECKING:
    from tests.simulation.world import World

_DISK = shutil._ntuple_diskusage(200 * 2**30, 0, 200 * 2**30)  # type: ignore[attr-defined]
# Nothing of the machine's own is read or written: sysctls are not played.
_NOWHERE = Path("/nonexistent/cumulet-simulation")


@contextmanager
def replaced(world: World) -> Iterator[None]:
    """Time, files, processes, network and broker are those of the world."""
    with ExitStack() as stack:
        for target, name, value in (
            *_time(world),
            *_files(world),
            *_processes(world),
            *_network(world),
            *_guests(world),
            *_machine(world),
            *_broker(world),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        # All runs in the thread of the loop, where Django expects nobody to wait for a database.
        stack.enter_context(mock.patch.dict(os.environ, {"DJANGO_ALLOW_ASYNC_UNSAFE": "1"}))
        yield


Seam = tuple[Any, str, Any]


def _time(world: World) -> Iterator[Seam]:
    clock = world.clock
    yield time, "time", clock.time
    yield time, "monotonic", clock.monotonic
    yield time, "sleep", clock.sleep
    yield timezone, "now", lambda: datetime.fromtimestamp(clock.now, UTC)
    yield os, "urandom", world.random.randbytes
    yield random_module, "_urandom", world.random.randbytes


def _files(world: World) -> Iterator[Seam]:
    """Only of programs on hosts; a lock file that is there already is no effect."""
    effects = world.effects

    def counted(what: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(path: Any, *arguments: Any, **more: Any) -> Any:
            actor = actors.current()
            if actor is None or actor.machine is None:
                return act(path, *arguments, **more)
            return effects.do(f"{what} {_name(path)}", act, path, *arguments, **more)

        return acted

    def renamed(act: Callable[..., Any]) -> Callable[..., Any]:
        """What is put in place has the time of the simulation."""

        def acted(source: Any, target: Any, **more: Any) -> Any:
            if _name(target) == "spec.json":
                _watch_documents(world, Path(source), Path(target))
            act(source, target, **more)
            now = time.time()
            os.utime(target, (now, now))

        return acted

    open_, open_file = os.open, io.open

    def opened(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
        actor = actors.current()
        if actor is None or actor.machine is None or not flags & os.O_CREAT:
            return open_(path, flags, *arguments, **more)
        if os.path.exists(path):  # noqa: PTH110  (a path of whichever kind)
            return open_(path, flags, *arguments, **more)
        return int(effects.do(f"create {_name(path)}", open_, path, flags, *arguments, **more))

    def opened_file(file: Any, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        actor = actors.current()
        if actor is None or actor.machine is None or "r" in mode or isinstance(file, int):
            return open_file(file, mode, *arguments, **more)
        return effects.do(f"write {_name(file)}", open_file, file, mode, *arguments, **more)

    def synced(descriptor: int) -> None:
        actor = actors.current()
        if actor is not None and actor.machine is not None:
            effects.do("sync", lambda: None)

    yield os, "open", opened
    yield io, "open", opened_file
    yield os, "fsync", synced
    yield os, "rename", counted("rename", renamed(os.rename))
    yield os, "replace", counted("replace", renamed(os.replace))
    yield os, "unlink", counted("unlink", os.unlink)
    yield os, "mkdir", counted("mkdir", os.mkdir)
    yield os, "rmdir", counted("rmdir", os.rmdir)
    yield shutil, "copyfile", counted("copy", shutil.copyfile)
    yield shutil, "disk_usage", lambda path: _DISK


def _watch_documents(world: World, new: Path, old: Path) -> None:
    """At no moment does a host go back to an older document, or to a server that it removed."""
    document = json.loads(new.read_bytes())
    uuid, generation = document["uuid"], document["generation"]
    tombstones = old.parent.parent.parent / "tombstones"
    if (tombstones / f"{uuid}.json").exists():
        world.complain(f"server {uuid} was removed and is made again")
    if old.exists() and json.loads(old.read_bytes())["generation"] > generation:
        world.complain(f"server {uuid} goes back to generation {generation}")


def _name(path: Any) -> str:
    return Path(os.fsdecode(path)).name if not isinstance(path, int) else str(path)


def _processes(world: World) -> Iterator[Seam]:
    play = programs.Programs(world.effects)
    handles: dict[int, int] = {}
    open_ = os.open
    select_ = select.select

    def pidfd_open(pid: int, flags: int = 0) -> int:
        if world.processes.get(pid) is None:
            raise ProcessLookupError(pid)
        handle = open_("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        handles[handle] = pid
        return handle

    def send_signal(handle: int, number: int, *_: Any) -> None:
        world.effects.do(f"signal {number}", world.processes.signal, handles[handle], number)

    def selected(
        readers: list[Any], writers: list[Any], rest: list[Any], timeout: float | None = None
    ) -> Any:
        """A pidfd is readable once its process has ended."""
        if not readers or readers[0] not in handles:
            return select_(readers, writers, rest, timeout)
        if world.processes.get(handles[readers[0]]) is None:
            return readers, [], []
        world.clock.sleep(timeout or 0.0)
        return [], [], []

    yield shell, "run", play.run
    yield shell, "detach", play.detach
    yield os, "pidfd_open", pidfd_open
    yield signal, "pidfd_send_signal", send_signal
    yield select, "select", selected
    yield processes, "PROC", world.processes.place
    yield shutil, "which", lambda name: f"/usr/bin/{name}"
    yield fetch, "logging_config", lambda *_, **__: None


def _network(world: World) -> Iterator[Seam]:
    effects = world.effects

    @contextmanager
    def inside(pid: int) -> Iterator[None]:
        kernel = actors.machine().kernel
        before, kernel.namespace = kernel.namespace, pid
        try:
            yield
        finally:
            kernel.namespace = before

    def namespace(process: str) -> str:
        return "the machine's" if process == "thread-self" else process

    def if_nameindex() -> list[tuple[int, str]]:
        kernel = actors.machine().kernel
        own = (one for one in kernel.links.values() if one.namespace == kernel.namespace)
        return [(one.index, one.name) for one in own]

    def if_nametoindex(name: str) -> int:
        kernel = actors.machine().kernel
        link = kernel.named(name, kernel.namespace)
        if link is None:
            raise OSError(errno.ENODEV, name)
        return link.index

    socket_class = type("SimulatedNetlink", (Netlink,), {"effects": effects})
    for module in (nics, leftovers, census, gateway, networks, user_mode, prepared_tap):
        yield module, "IPRoute", socket_class
    for name in (
        *("asking", "tables", "tables_of", "chain_exists", "chain_led_to", "rule_counts"),
        *("counters", "elements", "jumps"),
    ):
        yield nft, name, getattr(netfilter, name)
    yield links, "_SYSCTL", _NOWHERE
    yield socket, "if_nameindex", if_nameindex
    yield socket, "if_nametoindex", if_nametoindex
    yield announce, "announce", lambda *_: effects.do("announce", lambda: None)
    yield namespaces, "inside", inside
    yield namespaces, "_namespace", namespace
    yield switch_console, "ask", programs.console
    yield slirp, "require", lambda: None
    yield kernel_links, "NET_DEV", _NetDev()


class _NetDev:
    """/proc/net/dev of the machine of whoever reads it."""

    def read_text(self) -> str:
        machine = actors.machine()
        sent = {
            netdev.get("ifname"): qemu_.frames
            for qemu_ in machine.guests
            for netdev in qemu_.netdevs.values()
        }
        lines = ["Inter-|", " face |"]
        for link in machine.kernel.links.values():
            frames = sent.get(link.name, 0)
            lines.append(f" {link.name}: {frames * 60} {frames}" + " 0" * 14)
        return "\n".join(lines)


def _guests(world: World) -> Iterator[Seam]:
    yield qmp, "ask", partial(guests.ask, world.effects)
    yield qmp, "ask_agent", guests.ask_agent
    yield qmp, "QMPClient", guests.Monitor


def _machine(world: World) -> Iterator[Seam]:
    def owner(config: Any) -> Owner | None:
        return Owner("guests", os.getuid(), os.getgid()) if actors.machine().routes else None

    def find_out(host: Host) -> Verdict:
        return Verdict(host.boot_id, "tcg", "guests are emulated, slowly")

    yield host_module, "_owner", owner
    yield host_module, "_has_net_admin", lambda: actors.machine().routes
    yield host_module, "_admit_to_tun", lambda: None
    yield host_module, "_BOOT_ID", _BootId()
    yield accelerator, "_find_out", find_out
    yield accelerator, "is_forbidden", lambda host: False
    yield user_mode, "_addresses_of", lambda name: frozenset({name})


class _BootId:
    def read_text(self) -> str:
        return f"{actors.machine().boot_id}\n"


def _broker(world: World) -> Iterator[Seam]:
    yield agent, "app", lambda: world.bus
    yield agent, "config", lambda: actors.machine().config
    yield celery, "app", world.bus
