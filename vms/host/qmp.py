"""QEMU's monitor protocol: a thin adapter over qemu.qmp in which nothing waits for ever.

Commands go over the VM's command socket, one caller at a time (who holds the VM's converge
lock). Events come over the other socket and belong to `vms.host.monitor`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from qemu.qmp import ConnectError, ExecuteError, QMPClient, QMPError

from cloud.errors import CumuletError

CONNECT_SECONDS = 2.0
EXECUTE_SECONDS = 3.0
# A guest has its agent running or not; while one is asked, its VM waits.
AGENT_SECONDS = 0.5

# The library logs what it also raises.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)

# QEMU's RunState of a guest that switched itself off (`-action shutdown=pause`).
HALTED = "shutdown"
# Of one that it paused at a write for which the host's disk had no room (`werror=enospc`).
STALLED = "io-error"

Answer = TypeVar("Answer")


class QmpFailure(CumuletError):
    """QEMU did not do what it was asked."""

    code: ClassVar[str] = "qmp_failed"
    retryable: ClassVar[bool] = True


class QmpAbsent(QmpFailure):
    """Nobody listens on the socket."""

    code = "qmp_absent"


class QmpSilent(QmpFailure):
    """QEMU is there and does not answer within the time limit."""

    code = "qmp_silent"


class QmpRefused(QmpFailure):
    """QEMU answered with an error."""

    code = "qmp_refused"


@dataclass(frozen=True)
class Command:
    """One command with its arguments."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)


@asynccontextmanager
async def connected(socket: Path, *, greeting: bool = True) -> AsyncIterator[QMPClient]:
    """A client on `socket`, where QEMU greets and a guest's agent does not.

    Raises QmpAbsent or QmpSilent.
    """
    client = QMPClient()
    client.await_greeting = client.negotiate = greeting
    try:
        await _limited(client.connect(str(socket)), CONNECT_SECONDS, socket)
        yield client
    except ConnectError as error:
        if isinstance(error.exc, FileNotFoundError | ConnectionRefusedError):
            raise QmpAbsent(f"nobody listens on {socket}: QEMU is starting or ended") from error
        raise QmpSilent(f"QEMU does not answer on {socket}: {error}") from error
    except QMPError as error:
        raise QmpSilent(f"QEMU broke off on {socket}: {error}") from error
    finally:
        with suppress(QMPError, OSError, EOFError, TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.disconnect()


async def execute(client: QMPClient, name: str, /, **arguments: object) -> Any:
    """Run one command; raises QmpRefused or QmpSilent."""
    return await _execute(client, Command(name, arguments), EXECUTE_SECONDS)


async def listen(
    client: QMPClient, on_shutdown: Callable[[], None], on_pause: Callable[[], None]
) -> None:
    """Call `on_shutdown` whenever the guest goes off, or if it is off; returns at the hang-up.

    `on_pause`: QEMU paused it, has it paused, or lets it go on. Raises QmpSilent.
    """
    # What is not listed is not kept: a guest causes events for as long as it lives.
    client.events.names = {"SHUTDOWN", "STOP", "RESUME"}
    state = (await execute(client, "query-status"))["status"]
    if state == HALTED:
        on_shutdown()
    elif state == STALLED:
        on_pause()
    hang_up = asyncio.ensure_future(client.runstate_changed())
    event = asyncio.ensure_future(client.events.get())
    try:
        while not hang_up.done():
            await asyncio.wait((event, hang_up), return_when=asyncio.FIRST_COMPLETED)
            if event.done():
                off = event.result()["event"] == "SHUTDOWN"
                (on_shutdown if off else on_pause)()
                event = asyncio.ensure_future(client.events.get())
    finally:
        event.cancel()
        hang_up.cancel()


def ask(socket: Path, *commands: str | Command) -> list[Any]:
    """Run commands on one connection, in order, up to the first that is refused; their answers.

    For threads without an event loop. Raises QmpFailure.
    """
    named = [Command(one) if isinstance(one, str) else one for one in commands]
    return asyncio.run(_ask(socket, named))


def ask_agent(socket: Path, command: str) -> Any:
    """As `ask`, of the agent in the guest."""
    return asyncio.run(_ask_agent(socket, command))


def run_state(socket: Path) -> str:
    """QEMU's RunState, such as "running" or "shutdown"; raises QmpFailure."""
    (status,) = ask(socket, "query-status")
    return str(status["status"])


async def _ask(socket: Path, commands: Sequence[Command]) -> list[Any]:
    async with connected(socket) as client:
        return [await _execute(client, one, EXECUTE_SECONDS) for one in commands]


async def _ask_agent(socket: Path, command: str) -> Any:
    async with connected(socket, greeting=False) as client:
        return await _execute(client, Command(command), AGENT_SECONDS)


async def _execute(client: QMPClient, command: Command, seconds: float) -> Any:
    name, arguments = command.name, command.arguments
    try:
        return await _limited(client.execute(name, arguments or None), seconds, name)
    except ExecuteError as error:
        raise QmpRefused(f"QEMU refused {name}: {error}") from error
    except QMPError as error:
        raise QmpSilent(f"QEMU broke off during {name}: {error}") from error


async def _limited(step: Awaitable[Answer], seconds: float, what: object) -> Answer:
    try:
        # Not `wait_for`, which forgets that it was cancelled when the step ends at that moment.
        async with asyncio.timeout(seconds):
            return await step
    except TimeoutError as error:
        raise QmpSilent(f"QEMU did not answer on {what} within {seconds:g} s") from error
