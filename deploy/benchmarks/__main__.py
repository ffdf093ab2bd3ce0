"""`python -m deploy.benchmarks`, as deploy/bench starts it: one run from nothing to a verdict."""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, NoReturn

import psutil
import typer
from rich.console import Console

from cloud import shell
from cloud.errors import CumuletError
from deploy import guests, images, processes, state
from deploy.benchmarks import (
    deployment,
    fault_records,
    faults,
    footprint,
    network,
    private,
    report,
    revisions,
    vde,
    verdicts,
)
from deploy.benchmarks.faults import Part
from deploy.benchmarks.first_vm import FirstVm
from deploy.benchmarks.guest import Contender, Guest, Sample
from deploy.benchmarks.libvirt import Libvirt
from deploy.benchmarks.shell_loop import ShellLoop
from deploy.benchmarks.verdicts import Verdict
from deploy.images.image import GuestImage
from deploy.state import Instance
from deploy.steps import Steps

# Between two turns, so that nobody pays for what the one before left to do.
_REST_SECONDS = 0.5
# After the last server is gone, before the idle cloud is weighed.
_CALM_SECONDS = 5.0


def bench(
    rounds: Annotated[int, typer.Option(min=1, help="How often every contender starts.")] = 10,
    idle: Annotated[
        float, typer.Option(min=1, help="Seconds over which the idle cloud is weighed.")
    ] = 60.0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Where the numbers go.", dir_okay=False)
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="A git revision: measure only how its POST to running server differs."),
    ] = None,
    only_network: Annotated[
        bool, typer.Option("--network", help="Measure what a host's rules cost, and only that.")
    ] = False,
    only_private: Annotated[
        bool, typer.Option("--private", help="Measure what private networks cost, and only that.")
    ] = False,
    only_rootless: Annotated[
        bool, typer.Option("--rootless", help="Measure what VDE switches cost, and only that.")
    ] = False,
    only_faults: Annotated[
        bool, typer.Option("--faults", help="Measure how it fares when things go wrong, only that.")
    ] = False,
    parts: Annotated[
        list[Part] | None,
        typer.Option("--part", help="With --faults: only this; others keep their figures."),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(help="With --faults: take these records of tests, run nothing.", exists=True),
    ] = None,
) -> None:
    """Measure how fast a server is there, beside a shell loop of QEMU and virsh create.

    A missed target is a result: the exit code is 0 whenever everything could be measured.
    """
    console = Console(highlight=False)
    if only_network:
        _bench_network(rounds, json_file or state.default_state() / "bench-network.json", console)
        return
    if only_private:
        _bench_private(rounds, json_file or state.default_state() / "bench-private.json", console)
        return
    if only_faults:
        target = json_file or state.default_state() / "bench-faults.json"
        _bench_faults(parts or list(Part), records, target, console)
        return
    if only_rootless:
        _bench_rootless(rounds, json_file or state.default_state() / "bench-rootless.json", console)
        return
    target = json_file or state.default_state() / "bench.json"
    if against:
        _compare(against, rounds, target, console)
        return
    with Steps() as steps, deployment.own_instance() as instance:
        result = _run(instance, steps, rounds, idle)
    target.write_text(json.dumps(report.document(result), indent=2) + "\n")
    report.show(result, console)
    console.print(f"Numbers: {target}")


def _compare(revision: str, rounds: int, target: Path, console: Console) -> None:
    home = state.default_state() / "bench"
    with Steps() as steps, state.locked(home):
        samples = revisions.compare(home, revision, rounds, steps)
    document, table = report.comparison(_machine(), samples)
    target.write_text(json.dumps(document, indent=2) + "\n")
    console.print(table)
    console.print(f"Numbers: {target}")


def _bench_network(rounds: int, target: Path, console: Console) -> None:
    with Steps() as steps:
        result = network.measure(rounds, steps)
    _tell(network.document(result), result.verdicts(), target, console)


def _bench_private(rounds: int, target: Path, console: Console) -> None:
    with Steps() as steps:
        result = private.measure(rounds, steps)
    _tell(private.document(result), result.verdicts(), target, console)


def _bench_rootless(rounds: int, target: Path, console: Console) -> None:
    with Steps() as steps:
        result = vde.measure(rounds, steps)
    target.write_text(json.dumps(vde.document(result), indent=2) + "\n")
    console.print(vde.table(result))
    console.print(f"Numbers: {target}")


def _bench_faults(
    parts: Sequence[Part], records: Path | None, target: Path, console: Console
) -> None:
    if records:
        result = faults.joined(records)
    else:
        with Steps() as steps:
            result = faults.measure(parts, target.with_suffix(".records"), steps)
    numbers = fault_records.document(result, _hardware())
    target.write_text(json.dumps(numbers, indent=2) + "\n")
    console.print(fault_records.markdown(result), soft_wrap=True, markup=False)
    console.print(f"Numbers: {target}")


def _tell(
    numbers: dict[str, object], reached: Sequence[Verdict], target: Path, console: Console
) -> None:
    numbers = {**numbers, "verdicts": report.verdict_documents(reached)}
    target.write_text(json.dumps(numbers, indent=2) + "\n")
    console.print(report.verdict_table(reached))
    console.print(f"Numbers: {target}")


def _run(instance: Instance, steps: Steps, rounds: int, idle: float) -> report.Result:
    with steps.step("Guest image") as step:
        image = images.build("micro", images.default_cache(), step.progress)
    cloud = deployment.start(instance, steps)
    with steps.step("Image on every host"):
        deployment.offer(cloud, image)
    first_vm = FirstVm(cloud)
    with ExitStack() as stack:
        contenders: list[Contender] = [
            first_vm,
            *_baselines(instance, _guest(first_vm, image), stack),
        ]
        with steps.step("Warming up, one turn each that does not count"):
            _measure(contenders)
        with steps.step(f"{rounds} rounds of {len(contenders)} contenders") as step:
            samples: dict[str, list[Sample]] = {one.name: [] for one in contenders}
            for number in range(1, rounds + 1):
                step.progress(f"round {number}")
                for one, sample in zip(contenders, _measure(contenders), strict=True):
                    samples[one.name].append(sample)
    with steps.step(f"Idle cloud over {idle:g} s"):
        time.sleep(_CALM_SECONDS)
        programs = footprint.idle_processor(cloud, idle)
        memory = footprint.host_memory(cloud)
    timings = [report.timing(samples[one.name]) for one in contenders]
    return report.Result(
        machine=_machine(),
        samples=samples,
        host_mib=memory,
        idle_percent=programs,
        verdicts=[
            *verdicts.speed(*timings),
            *verdicts.footprint(memory, footprint.control_programs(cloud, programs)),
        ],
    )


def _measure(contenders: Sequence[Contender]) -> list[Sample]:
    """One round: everybody once, in turns."""
    samples = []
    for one in contenders:
        samples.append(one.measure())
        time.sleep(_REST_SECONDS)
    return samples


def _baselines(instance: Instance, guest: Guest, stack: ExitStack) -> list[Contender]:
    # Marked as of the instance, so that the next run finds what a killed one left.
    env = {processes.MARK: instance.id}
    virsh = Libvirt(guest, instance.run / "libvirt", env)
    return [
        ShellLoop(guest, instance.data / "shell-loop", env),
        stack.enter_context(virsh.running()),
    ]


def _guest(first_vm: FirstVm, image: GuestImage) -> Guest:
    """What the cloud's server will be, so that the others start the same."""
    name = guests.KINDS[guests.Guest.MICRO].server_type
    (kind,) = first_vm.get(f"/server_types?name={name}")["server_types"]
    (host, *_) = first_vm.get("/hosts")["hosts"]
    return Guest(
        image=image,
        cores=kind["cores"],
        memory_mb=round(kind["memory"] * 1024),
        disk_gb=kind["disk"],
        accelerator=host["accelerator"],
    )


def _machine() -> dict[str, str]:
    def version(*argv: str) -> str:
        return shell.run(argv, timeout=20).stdout.splitlines()[0]

    return {
        **_hardware(),
        "qemu": version("qemu-system-x86_64", "--version"),
        "libvirt": version("virsh", "--version"),
    }


def _hardware() -> dict[str, str]:
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": str(psutil.cpu_count()),
        "memory_gib": f"{psutil.virtual_memory().total / 2**30:.0f}",
        "kernel": platform.release(),
    }


def _end_on_sigterm() -> None:
    """A SIGTERM takes the way of Ctrl-C: everything that was started is ended.

    In this process only: pyroute2 forks helpers and ends them with the same signal.
    """
    owner = os.getpid()

    def terminated(*_: object) -> NoReturn:
        if os.getpid() != owner:
            os._exit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminated)


def main() -> None:
    _end_on_sigterm()
    try:
        typer.run(bench)
    except CumuletError as error:
        sys.exit(f"{error.code}: {error.message}")


if __name__ == "__main__":
    main()
