"""The wall clock of some programs of the cloud, set while they run.

Hosts of the lab share the machine's clock, which stays alone: libfaketime stands between the
programs and it. What they measure by the monotonic clock is not touched, as with a real clock that
somebody sets; guests started meanwhile inherit the host's time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cloud import shell
from deploy.cloud import Cloud
from deploy.supervise import Program

Set = Callable[[int], None]


@contextmanager
def settable(cloud: Cloud, programs: Sequence[Program]) -> Iterator[Set]:
    """Restarts the programs at both ends; the yielded function sets their clock, in seconds off."""
    clock = cloud.instance.data / "clock"
    names = [program.name for program in programs]

    def set_clock(seconds: int) -> None:
        fresh = clock.with_name("clock.new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.chmod(0o644)
        fresh.replace(clock)

    set_clock(0)
    environment = {
        "LD_PRELOAD": _library(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
        "NO_FAKE_STAT": "1",
    }
    faked = [replace(program, env={**program.env, **environment}) for program in programs]
    cloud.supervisor.apply(faked)
    cloud.supervisor.start(*names)
    try:
        yield set_clock
    finally:
        cloud.supervisor.apply(programs)
        cloud.supervisor.start(*names)
        clock.unlink()


def _library() -> str:
    listing = shell.run(["dpkg", "-L", "libfaketime"], timeout=10).stdout
    (path,) = [line for line in listing.splitlines() if line.endswith("/libfaketimeMT.so.1")]
    assert Path(path).exists()
    return path
