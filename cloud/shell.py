"""The one place that starts a process.

Everything that Cumulet asks of another program goes through `run` (wait for it) or `spawn`
(it outlives the caller). There is no shell in between: arguments are a list, so nothing that
a user typed is ever interpreted.
"""

from __future__ import annotations

import logging
import os
import pwd
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypedDict

from cloud.errors import CumuletError

# The standard library's, so that deploy's commands, which configure no logging, stay quiet.
log = logging.getLogger(__name__)

_DETACH_SECONDS = 10.0
_SAID_CHARACTERS = 500


@dataclass(frozen=True)
class Result:
    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class CommandError(CumuletError):
    """A program could not do what it was started for."""

    code: ClassVar[str] = "command_failed"
    retryable: ClassVar[bool] = True


class CommandFailed(CommandError):
    """The program ended with an exit code that the caller did not expect."""

    def __init__(self, result: Result) -> None:
        said = (result.stderr or result.stdout).strip()
        super().__init__(f"{result.argv[0]} ended with exit code {result.code}: {said[-2000:]}")
        self.result = result


class CommandTimeout(CommandError):
    """The program was killed because it took longer than its time limit."""

    code = "command_timeout"


class CommandMissing(CommandError):
    """The program is not installed."""

    code = "command_missing"
    retryable = False


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
    ok: Collection[int] = (0,),
) -> Result:
    """Run a program to its end, at most `timeout` seconds.

    `env` is added to the caller's environment. `user` (root only) drops to that user and its
    primary group. Raises CommandFailed, CommandTimeout or CommandMissing.
    """
    command = [str(part) for part in argv]
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env={**os.environ, **env} if env else None,
            cwd=cwd,
            **_identity(user),
        )
    except FileNotFoundError as error:
        raise _missing(command, error) from error
    except subprocess.TimeoutExpired as error:
        raise CommandTimeout(
            f"{command[0]} took longer than {timeout:g} s and was ended"
        ) from error
    result = Result(tuple(command), done.returncode, done.stdout, done.stderr)
    _note(result, time.monotonic() - began)
    if result.code not in ok:
        raise CommandFailed(result)
    return result


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program that outlives the caller: own session, no standard input, output to `log`.

    The caller owns the handle and reaps it; raises CommandMissing.
    """
    command = [str(part) for part in argv]
    with log.open("ab") as output:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **env} if env else None,
                **_identity(user),
            )
        except FileNotFoundError as error:
            raise _missing(command, error) from error


def detach(argv: Sequence[str | Path], *, log: Path) -> None:
    """Start a program that is nobody's child here: it has to be found again by other means.

    Raises CommandMissing or CommandTimeout; that `argv` itself could not be executed is only in
    the log.
    """
    try:
        spawn(["setsid", "--fork", *argv], log=log).wait(_DETACH_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise CommandTimeout(f"{argv[0]} could not be started in time") from error


def _note(result: Result, seconds: float) -> None:
    """What a program said goes into the log of whoever asked, in one format with the rest.

    One that did its work without a word is news for debugging only. Arguments and input stay
    out, they may be secret.
    """
    facts: dict[str, object] = {
        "program": Path(result.argv[0]).name,
        "code": result.code,
        "duration": round(seconds, 4),
    }
    said = result.stderr.strip()
    if said:
        facts["stderr"] = said[-_SAID_CHARACTERS:]
    log.log(logging.INFO if said or result.code else logging.DEBUG, "program ended", extra=facts)


class _Identity(TypedDict):
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int] | None


def _identity(user: str | None) -> _Identity:
    if user is None:
        return {"user": None, "group": None, "extra_groups": None}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _missing(command: list[str], error: FileNotFoundError) -> CommandMissing:
    return CommandMissing(
        f"cannot start {command[0]} ({error.filename} not found): install the package that has it"
    )
