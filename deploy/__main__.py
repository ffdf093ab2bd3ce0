"""`python -m deploy up|down`, as deploy/up and deploy/down start it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cloud.errors import CumuletError
from deploy import start, state, stop
from deploy.guests import Guest
from deploy.lab import MAX_HOSTS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.command()
def up(
    hosts: Annotated[
        int, typer.Option(min=1, max=MAX_HOSTS, help="How many lab hosts; never fewer than before.")
    ] = 2,
    guest: Annotated[Guest, typer.Option(help="What the first server runs.")] = (Guest.DEBIAN),
) -> None:
    """Start the cloud of this checkout. Repeating it changes nothing."""
    start.up(state.default_state(), start.Options(hosts=hosts, guest=guest))


@app.command()
def down(
    purge: Annotated[bool, typer.Option("--purge", help="Forget servers, disks and keys.")] = False,
) -> None:
    """Stop the cloud of this checkout; the next deploy/up brings it back."""
    stop.down(state.default_state(), purge=purge)


def main() -> None:
    try:
        app()
    except CumuletError as error:
        sys.exit(f"{error.code}: {error.message}")


if __name__ == "__main__":
    main()
