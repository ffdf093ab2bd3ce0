"""The first documents that a process reads, which may come to many threads at once."""

from __future__ import annotations

import sys

from cloud import shell

_READ = """
import sys, threading
from cloud.wire import convert, encode
from tests.documents import SPEC
from vms.spec import VmSpec

document, together = encode(SPEC), threading.Barrier(8)
sys.setswitchinterval(1e-6)

def read():
    together.wait()
    assert convert(document, VmSpec) == SPEC

threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("read")
"""


def test_threads_that_read_the_first_document_at_once_do_not_end_the_process() -> None:
    said = shell.run(
        [sys.executable, "-c", _READ], timeout=60, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert said.stdout == "read\n"
