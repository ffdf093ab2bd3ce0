"""`python -m deploy up|down|manage|host|lab`, as deploy/up, deploy/down and so on start it."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from cloud import shell
from cloud.errors import CumuletError
from deploy import control, host_commands, lab_commands, start, state, stop
from deploy.guests import Guest
from deploy.lab import MAX_HOSTS, MAX_ROOTLESS
from deploy.state import Instance
from deploy.steps import Steps
from deploy.supervise import Supervisor, running_instance

# A large inventory on a slow disk.
_RESTORE_SECONDS = 2 * 3600.0
_WEB_SECONDS = 300.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
app.add_typer(host_commands.app, name="host")
app.add_typer(lab_commands.app, name="lab")


@app.command()
def up(
    hosts: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_HOSTS, help="How many lab hosts, 2; never fewer than before."),
    ] = None,
    rootless: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_ROOTLESS, help="How many lab hosts without privileges, too."),
    ] = None,
    guest: Annotated[
        Guest | None, typer.Option(help="What the first server runs: Debian where it can be had.")
    ] = None,
) -> None:
    """Start the cloud of this checkout. Repeating it changes nothing.

    As root it has a lab of hosts; without root it has one host, the machine as it is.
    """
    start.up(state.default_state(), start.Options(hosts=hosts, rootless=rootless, guest=guest))


@app.command()
def down(
    purge: Annotated[bool, typer.Option("--purge", help="Forget servers, disks and keys.")] = False,
) -> None:
    """Stop the cloud of this checkout; the next deploy/up brings it back."""
    stop.down(state.default_state(), purge=purge)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def manage(context: typer.Context) -> None:
    """Run manage.py with the settings of this checkout's cloud."""
    instance = running_instance(state.default_state())
    environment = {**os.environ, **control.environment(instance), "CUMULET_LOG_FORMAT": "text"}
    program = [sys.executable, str(state.CHECKOUT / "manage.py"), *context.args]
    if context.args[:1] == ["restore"] and "--help" not in context.args:
        raise typer.Exit(_restore(instance, program, environment))
    os.execve(sys.executable, program, environment)


def _restore(instance: Instance, program: list[str], environment: dict[str, str]) -> int:
    """Nobody may be connected to the database meanwhile. Answers the exit code."""
    with Steps() as steps:
        with (
            steps.step("Restore, while the control plane is stopped"),
            control.stopped(instance),
        ):
            result = shell.run(program, timeout=_RESTORE_SECONDS, env=environment, ok=range(256))
        typer.echo(result.stdout + result.stderr, nl=False)
        with steps.step("API"):
            Supervisor(instance).wait(
                control.WEB, lambda: control.web_ready(instance), seconds=_WEB_SECONDS
            )
    return result.code


def main() -> None:
    try:
        app()
    except CumuletError as error:
        sys.exit(f"{error.code}: {error.message}")


if __name__ == "__main__":
    main()
