"""`deploy/lab`: what can happen to a host of the lab, to see what the cloud makes of it."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy import reboot as power
from deploy import release, state
from deploy.cloud import Cloud
from deploy.steps import Steps
from deploy.supervise import running_instance

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def lab() -> None:
    """Let something happen to a host of this checkout's lab."""


@app.command()
def reboot(
    host: Annotated[str, typer.Argument(help="A lab host, such as h1.")],
) -> None:
    """Cut a lab host's power and give it back: all but its disk is lost, its boot id is new."""
    directory = state.default_state()
    with state.locked(directory), Steps() as steps:
        cloud = Cloud(running_instance(directory), hosts=1)
        cloud.release = release.current(cloud.instance)
        chosen = power.host_of(cloud, host)
        with steps.step(f"{host}: power off"):
            power.cut_power(cloud, chosen)
        with steps.step(f"{host}: power on"):
            power.give_power(cloud, chosen)
