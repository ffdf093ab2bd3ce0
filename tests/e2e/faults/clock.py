"""The wall clock of some programs of the cloud, set while they run.

Hosts of the lab share the machine's clock, which is left alone: a small library (clock.c) stands
between the programs and it. Guests that are started meanwhile inherit their host's time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from cloud import shell
from deploy.cloud import Cloud
from deploy.supervise import Program

_SOURCE = Path(__file__).with_name("clock.c")
Set = Callable[[int], None]


@contextmanager
def settable(cloud: Cloud, programs: Sequence[Program]) -> Iterator[Set]:
    """Restarts the programs at both ends; the yielded function sets their clock, in seconds off."""
    names = [program.name for program in programs]
    # What was started with a library or a file has it in its memory for as long as it runs.
    place = Path(mkdtemp(prefix="clock-", dir=cloud.instance.data))
    place.chmod(0o755)
    library, clock = place / "clock.so", place / "seconds"
    shell.run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-o", library, _SOURCE], timeout=60)

    def set_clock(seconds: int) -> None:
        with clock.open("r+b") as file:
            file.write(struct.pack("q", seconds))

    clock.write_bytes(struct.pack("q", 0))
    clock.chmod(0o644)
    environment = {"LD_PRELOAD": str(library), "CUMULET_TEST_CLOCK": str(clock)}
    faked = [replace(program, env={**program.env, **environment}) for program in programs]
    cloud.supervisor.apply(faked)
    cloud.supervisor.start(*names)
    try:
        cloud.wait_until_up()
        yield set_clock
    finally:
        cloud.supervisor.apply(programs)
        cloud.supervisor.start(*names)
        cloud.wait_until_up()
