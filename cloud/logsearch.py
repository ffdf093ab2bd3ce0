"""Where this machine's own logs mention a request.

`cloud.story` searches the control machine with it, every agent its host, asked through Celery's
remote control (`cloud.inspection`). Logs are the files below CUMULET_LOG_PATHS and, where systemd
runs, the journal. Free of Django, because hosts use it.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from cloud import requestid, shell

# The variable that names the directories of logs, separated by colons.
PATHS = "CUMULET_LOG_PATHS"

# How much a host answers at most. The search holds up the agent's connection to the broker, so
# its time has to stay well below the broker's heartbeat.
MAX_LINES = 2000
MAX_BYTES = 2**20
MAX_SECONDS = 4.0

_LOG = re.compile(r"(?P<origin>.+)\.log(\.\d+)?(\.gz)?")
_BATCH_BYTES = 2**20
_JOURNAL_SECONDS = 60.0
_UNIT = "cumulet-"


class Line(Struct, frozen=True, array_like=True):
    """One JSON line as it was logged. `origin`: its file or unit, such as "web", "agent-h1"."""

    origin: str
    text: str


class Gap(Struct, frozen=True, array_like=True):
    """A part of the story that is missing, and why."""

    reason: str


class Answer(Struct, frozen=True):
    """What one host says."""

    lines: list[Line]
    gaps: list[Gap]


class _TimeUp(Exception):
    """The search took too long."""


def answer(request_id: str) -> Answer:
    """What this machine's logs say about a request, within bounds; for one who asks from afar."""
    if not requestid.is_usable(request_id):
        return Answer([], [Gap("this is no request id")])
    return bounded(search(request_id, deadline=time.monotonic() + MAX_SECONDS))


def bounded(found: Iterable[Line | Gap]) -> Answer:
    """As much as one answer may hold; a Gap says that there is more."""
    lines: list[Line] = []
    gaps: list[Gap] = []
    size = 0
    try:
        for part in found:
            if isinstance(part, Gap):
                gaps.append(part)
                continue
            size += len(part.text.encode())
            if len(lines) == MAX_LINES or size > MAX_BYTES:
                gaps.append(Gap(f"only {len(lines)} of its lines are here, there are more"))
                break
            lines.append(part)
    except _TimeUp:
        gaps.append(Gap(f"its search was ended after {MAX_SECONDS:g} s, there may be more"))
    return Answer(lines, gaps)


def search(request_id: str, deadline: float = float("inf")) -> Iterator[Line | Gap]:
    """Every line whose `request_id` is this usable one. `deadline`: on the monotonic clock."""
    for directory in directories():
        yield from search_files(directory, request_id, deadline)
    if Path("/run/systemd/system").is_dir() and shutil.which("journalctl"):
        yield from _search_journal(request_id, deadline)


def directories(env: Mapping[str, str] = os.environ) -> list[Path]:
    return [Path(part) for part in env.get(PATHS, "").split(":") if part]


def search_files(
    directory: Path, request_id: str, deadline: float = float("inf")
) -> Iterator[Line | Gap]:
    """In every log below the directory, rotated ones included; files are never read whole."""
    unreadable: list[OSError] = []
    for parent, _, names in os.walk(directory, onerror=unreadable.append):
        for name in sorted(names):
            log, path = _LOG.fullmatch(name), Path(parent, name)
            if log and path.is_file():
                yield from _search_file(path, log["origin"], request_id, deadline)
    for error in unreadable:
        yield Gap(f"{error.filename} cannot be read ({error.strerror})")


def _search_file(path: Path, origin: str, request_id: str, deadline: float) -> Iterator[Line | Gap]:
    needle = request_id.encode()
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while batch := file.readlines(_BATCH_BYTES):
                for raw in batch:
                    # Parsing costs far more, and almost every line is about something else.
                    if needle in raw and _is_about(raw, request_id):
                        yield Line(origin, raw.decode(errors="replace").strip())
                if time.monotonic() > deadline:
                    raise _TimeUp
    except FileNotFoundError:
        return  # rotated away meanwhile
    except (OSError, EOFError, zlib.error) as error:
        yield Gap(f"{path} cannot be read to its end ({error})")


def journal_argv(request_id: str) -> list[str]:
    """Asks for the cloud's units. The id is quoted whole: none of it is a pattern."""
    return [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=json",
        "--output-fields=MESSAGE,_SYSTEMD_UNIT",
        f"--unit={_UNIT}*",
        f"--lines={MAX_LINES}",
        "--case-sensitive=yes",
        rf"--grep=\Q{request_id}\E",
    ]


def journal_lines(output: str, request_id: str) -> Iterator[Line]:
    """The request's lines in what `journalctl --output=json` printed."""
    for text in output.splitlines():
        entry = facts_of(text)
        message, unit = entry.get("MESSAGE"), str(entry.get("_SYSTEMD_UNIT"))
        if isinstance(message, str) and _is_about(message, request_id):
            yield Line(unit.removeprefix(_UNIT).removesuffix(".service"), message)


def _search_journal(request_id: str, deadline: float) -> Iterator[Line | Gap]:
    seconds = max(0.1, min(_JOURNAL_SECONDS, deadline - time.monotonic()))
    try:
        # It ends with 1 where it finds nothing.
        result = shell.run(journal_argv(request_id), timeout=seconds, ok=(0, 1))
    except shell.CommandError as error:
        yield Gap(f"the journal cannot be read ({error.message})")
        return
    yield from journal_lines(result.stdout, request_id)


def facts_of(text: str | bytes) -> dict[str, object]:
    """A log line's JSON object; an empty one for any other line, such as one half written."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_about(text: str | bytes, request_id: str) -> bool:
    return facts_of(text).get(requestid.HEADER) == request_id
