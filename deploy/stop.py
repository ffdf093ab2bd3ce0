"""`deploy/down`: takes a cloud down, guests first and gently, then processes, then the lab.

Afterwards nothing of the instance runs: no process, namespace, link, mount or firewall rule
(rules live inside the namespaces). Works from whatever a killed run or a reboot left.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

from qemu.qmp import QMPClient, QMPError

from deploy import processes, sites, state
from deploy.state import Instance
from deploy.steps import Steps
from deploy.supervise import Supervisor

_PROGRAM_SECONDS = 45.0
_GUEST_SECONDS = 60.0  # Debian under emulation takes 15
_QMP_SECONDS = 5.0


def down(directory: Path, *, purge: bool) -> None:
    """Stop the cloud of a state directory; `purge` forgets it too."""
    if not directory.exists() and not purge:
        Steps().say(f"no cloud in {directory}")
        return
    with state.locked(directory), Steps() as steps:
        instance = state.load(directory) or state.unknown(directory)
        with steps.step("Agents and monitors stopped"):
            _stop_host_programs(instance)
        sockets = _guest_sockets(instance)
        if sockets and not purge:
            with steps.step(f"Guests shut down: {len(sockets)}"):
                asyncio.run(_shut_down(sockets))
        with steps.step("Everything else stopped and removed"):
            stop_all(instance)
        if purge:
            with steps.step(f"State removed: {instance.data}, {directory}"):
                instance.remove_data()
                _remove_private(directory)


def stop_all(instance: Instance) -> None:
    """Stop the programs, then whatever else of the instance is alive, then remove its site."""
    site = sites.of(instance)
    Supervisor(instance).shutdown(seconds=_PROGRAM_SECONDS)
    processes.end([*processes.of_instance(instance.id), *site.processes()], patience=10)
    site.remove()
    shutil.rmtree(instance.run, ignore_errors=True)


def remove_all(instance: Instance) -> None:
    """Stop everything and forget the cloud's data."""
    stop_all(instance)
    instance.remove_data()


def _stop_host_programs(instance: Instance) -> None:
    """First of all: an agent would start the guests again."""
    supervisor = Supervisor(instance)
    if supervisor.running():
        names = [n for n in supervisor.states() if n.startswith(("agent-", "monitor-"))]
        supervisor.stop(*names)


def _guest_sockets(instance: Instance) -> list[Path]:
    return sorted(instance.run.glob("*/*/qmp"))


async def _shut_down(sockets: list[Path]) -> None:
    """Press every guest's power button and wait; what does not listen is cut off later."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_GUEST_SECONDS):
            await asyncio.gather(*map(_shut_down_one, sockets))


async def _shut_down_one(socket: Path) -> None:
    client = QMPClient("deploy-down")
    try:
        await asyncio.wait_for(client.connect(str(socket)), _QMP_SECONDS)
        await _execute(client, "system_powerdown")
        while (await _execute(client, "query-status"))["status"] != "shutdown":
            await asyncio.sleep(0.2)
    except (QMPError, OSError, TimeoutError):
        return  # it ended, or is no longer to be talked to
    finally:
        with suppress(QMPError, OSError):
            await client.disconnect()


async def _execute(client: QMPClient, command: str) -> dict[str, str]:
    answer = await asyncio.wait_for(client.execute(command), _QMP_SECONDS)
    return answer if isinstance(answer, dict) else {}


def _remove_private(directory: Path) -> None:
    """What deploy/up wrote; anything else in the directory is not ours."""
    for name in ("state.json", "token", "env", "ssh_config"):
        (directory / name).unlink(missing_ok=True)
    for name in ("log", "ssh"):
        shutil.rmtree(directory / name, ignore_errors=True)
    (directory / "lock").unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()
