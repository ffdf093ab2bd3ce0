"""The programs that a host starts: `cloud.shell` without processes. Each start is one effect."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from base64 import b64encode
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cloud import requestid
from cloud.shell import CommandFailed, Result
from networks.host.outside_orders import COUNTERS, Orders, Place, digest
from tests.simulation import actors, netfilter
from tests.simulation.actors import Actor, Killed
from tests.simulation.machine import Machine, Process, write_pid
from vms.host import fetch

_BECOMING = {"setpriv", "env", "prlimit"}


class Programs:
    """What `cloud.shell` is replaced by."""

    def __init__(self, effects: actors.Effects) -> None:
        self._effects = effects

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        timeout: float,
        input: str | None = None,
        ok: Collection[int] = (0,),
        **_: Any,
    ) -> Result:
        words = _plain(argv)
        program = Path(words[0]).name
        play = getattr(self, f"_run_{program.replace('-', '_')}")
        reading = words[:2] in (["wg", "pubkey"], ["wg", "genkey"], ["wg", "show"]) or (
            words[:2] == ["nft", "-j"] or "info" in words
        )
        said = (
            play(words, input)
            if reading
            else self._effects.do(f"run {' '.join(words[:2])}", play, words, input)
        )
        return Result(tuple(words), 0, said or "", "")

    def detach(self, argv: Sequence[str | Path], *, log: Path) -> None:
        words = _plain(argv)
        self._effects.do(f"detach {Path(words[0]).name}", self._detach, words, log)

    def _detach(self, words: list[str], log: Path) -> None:
        machine = actors.machine()
        log.open("ab").close()
        if words[0].startswith("qemu-system"):
            machine.start_qemu(words, log)
        elif words[:2] == ["unshare", "--net"]:
            keeper = machine.world.processes.start(machine, words[2:])
            machine.kernel.add("lo", "loopback", keeper.pid)
        elif words[1:3] == ["-m", "networks.host.outside"]:
            _start_outlet(machine, words)
        elif words[1:3] == ["-m", "vms.host.fetch"]:
            _start_fetch(machine, words)
        else:
            raise AssertionError(f"nobody plays {words}")

    def _run_qemu_img(self, words: list[str], input: str | None) -> str:
        if "info" in words:
            return json.dumps({"virtual-size": Path(words[-1]).stat().st_size})
        draft = Path(words[-2])
        draft.write_bytes(f"overlay of {words[-1]} bytes".encode())
        return ""

    def _run_nft(self, words: list[str], input: str | None) -> str:
        if input is None:
            return json.dumps({"nftables": []})
        kernel = actors.machine().kernel
        try:
            netfilter.apply(kernel, input)
        except netfilter.Refused as error:
            raise CommandFailed(Result(tuple(words), 1, "", str(error))) from error
        return ""

    def _run_wg(self, words: list[str], input: str | None) -> str:
        machine = actors.machine()
        match words[1]:
            case "genkey":
                return _key(f"private {machine.name}")
            case "pubkey":
                return _key(input or "")
            case "syncconf":
                if machine.kernel.named(words[2], 0) is None:
                    raise CommandFailed(Result(tuple(words), 1, "", "no such device"))
                machine.kernel.tunnels[words[2]] = input or ""
        return ""

    def _run_unshare(self, words: list[str], input: str | None) -> str:
        return ""

    def _run_dnsmasq(self, words: list[str], input: str | None) -> str:
        machine = actors.machine()
        process = machine.world.processes.start(machine, words)
        conf = Path(words[1].partition("=")[2])
        write_pid(conf.with_name("pid"), process.pid)
        return ""

    def _run_vde_switch(self, words: list[str], input: str | None) -> str:
        machine = actors.machine()
        process = machine.world.processes.start(machine, words)
        place = Path(words[words.index("--sock") + 1])
        for name in ("ctl", "console"):
            (place / name).touch()
        write_pid(place / "pid", process.pid)
        machine.pull_cables(place)
        return ""


def _plain(argv: Sequence[str | Path]) -> list[str]:
    """Without what a command is led in by."""
    words = [str(word) for word in argv]
    while words[0] in _BECOMING:
        words = words[1:]
        while words[0].startswith("--") or re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
    return words


def _key(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()


def console(path: Path, command: str) -> str:
    """In the place of `networks.host.switch_console.ask`."""
    machine = actors.machine()
    lines = []
    for number, (pid, qemu) in enumerate(machine.plugged(path.parent).items(), start=1):
        lines += [
            f"Port {number:04} untagged_vlan=0000 ACTIVE - Unnamed Allocatable",
            f" IN:  pkts {qemu.frames:10}   bytes {qemu.frames * 60:12}",
            " OUT: pkts          0   bytes            0",
            f"  -- endpoint ID 0003 module unix prog   : guest user=agent pid={pid}",
        ]
    return "\n".join([*lines, "1000 Success"])


def _start_outlet(machine: Machine, words: list[str]) -> None:
    place = Place(Path(words[-1]))
    argv = [Path(sys.executable).name, *words[1:]]
    if any(one.argv == argv for one in machine.processes):
        return  # the first one has the lock
    process = machine.world.processes.start(machine, argv, heed=_obey)
    write_pid(place.pid, process.pid)
    place.counters.write_bytes(COUNTERS.pack(*[0] * (COUNTERS.size // 8)))
    _obey(process)


def _obey(outlet: Process) -> None:
    """Open the ports of its orders, and say which were taken."""
    place = Place(Path(outlet.argv[-1]))
    text = place.orders.read_bytes()
    forwards = Orders.decode(text).forwards
    others = {port for one in outlet.machine.processes if one is not outlet for port in one.ports}
    refused = [
        {**asdict(one), "reason": "in use"}
        for one in forwards
        if (one.protocol, one.port) in others
    ]
    outlet.ports = {(one.protocol, one.port) for one in forwards} - others
    place.answer.write_text(json.dumps({"orders": digest(text), "refused": refused}))


def _start_fetch(machine: Machine, words: list[str]) -> None:
    """The real program, in a process of its own that can be killed."""
    arguments = words[3:]
    actor = Actor(f"fetch@{machine.name}", machine)
    process = machine.world.processes.start(machine, words)
    actor.ended = lambda: machine.world.processes.end(process)
    machine.world.fetchers.append(actor)

    async def work() -> None:
        try:
            with requestid.bound(requestid.fresh()):
                fetch.main(arguments)
        except Killed:
            actor.dead = True
            raise
        finally:
            machine.world.processes.end(process)

    actors.start(actor, work())
