"""A host's two programs on a machine: the agent, which takes messages, and the monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery.exceptions import CeleryError

from cloud import requestid
from cloud.errors import CumuletError
from cloud.wire import MalformedDocument, decode
from networks.spec import NetworkRemoval, NetworkSpec
from tests.simulation import actors
from tests.simulation.actors import Actor, Killed
from tests.simulation.bus import Message
from tests.simulation.machine import Machine
from vms.drift.spec import InventoryRequest, StrayRemoval
from vms.host import bridging, inbox
from vms.host.documents import DamagedStore
from vms.host.host import Host
from vms.host.monitor import Monitor
from vms.host.outbox import BROKER
from vms.spec import ImageFetch, VmRemoval, VmSpec

if TYPE_CHECKING:
    from tests.simulation.world import World

RESTART_SECONDS, BOOT_SECONDS = 1.0, 5.0
# Usage is not what is looked for here.
_NEVER = 1e9


class HostPrograms:
    """Of one machine, started again by its service manager whenever they end."""

    def __init__(self, world: World, machine: Machine) -> None:
        self._world, self._machine = world, machine
        self._running: dict[str, Actor] = {}
        self._up = True

    def start(self) -> None:
        self._up = True
        for kind in ("agent", "monitor"):
            self._start(kind)

    def kill(self, kind: str) -> None:
        actor = self._running.get(kind)
        if actor is not None:
            actor.die()

    def reboot(self) -> None:
        """The machine loses power, and comes back by itself."""
        self._up = False
        for actor in [*self._running.values(), *self._world.fetchers]:
            if actor.machine is self._machine:
                actor.die()
        self._machine.reboot()
        self._world.later(BOOT_SECONDS, self.start)

    def _start(self, kind: str) -> None:
        if not self._up:
            return
        actor = Actor(f"{kind}@{self._machine.name}", self._machine)
        actor.ended = lambda: self._world.later(
            RESTART_SECONDS, lambda: self._start_again(kind, actor)
        )
        actor.failed = lambda error: self._world.complain(f"{actor.name} ended: {_causes(error)}")
        self._running[kind] = actor
        actors.start(actor, self._take_messages() if kind == "agent" else self._watch())

    def _start_again(self, kind: str, ended: Actor) -> None:
        if self._running.get(kind) is ended:
            self._world.bus.bury(self._queues)
            self._start(kind)

    @property
    def _queues(self) -> tuple[str, str]:
        return f"host.{self._machine.name}", f"host.{self._machine.name}.bulk"

    def _open(self) -> Host:
        host = Host.open(self._machine.config)
        bridging.prepare(host)
        return host

    async def _take_messages(self) -> None:
        host = self._open()
        messages = self._world.bus.consume(*self._queues)
        try:
            async for message in messages:
                self._handle(host, message)
        finally:
            await messages.aclose()

    def _handle(self, host: Host, message: Message) -> None:
        try:
            with requestid.bound(requestid.fresh()):
                handle(host, message)
        except Killed:
            raise
        except (MalformedDocument, DamagedStore) as error:
            # All are of one release, and no crash may damage what a host keeps.
            self._world.complain(f"agent@{self._machine.name} refused {message.task}: {error!r}")
        except (CumuletError, CeleryError):
            pass  # the worker logs it, and the message is done with
        except Exception as error:
            self._world.complain(f"agent@{self._machine.name} at {message.task}: {error!r}")

    async def _watch(self) -> None:
        await Monitor(self._open(), BROKER, usage_seconds=_NEVER).run()


def _causes(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return repr(error)


def handle(host: Host, message: Message) -> None:
    """As `vms.host.tasks`."""
    document = message.document
    match message.task:
        case "vms.ensure":
            inbox.ensure(host, decode(document, VmSpec), BROKER.vm)
        case "vms.remove":
            inbox.remove(host, decode(document, VmRemoval), BROKER.vm)
        case "images.fetch":
            inbox.fetch(host, decode(document, ImageFetch), BROKER.image)
        case "networks.ensure":
            inbox.network(host, decode(document, NetworkSpec), BROKER.network, BROKER.vm)
        case "networks.remove":
            inbox.network(host, decode(document, NetworkRemoval), BROKER.network, BROKER.vm)
        case "hosts.look":
            inbox.look(host, decode(document, InventoryRequest), BROKER.inventory)
        case "strays.remove":
            inbox.remove_strays(host, decode(document, StrayRemoval), BROKER.inventory)
        case _:
            raise AssertionError(f"nobody sends {message.task} to hosts")
