"""Starts supervisord in the background, as the child subreaper of everything it starts.

A guest outlives the agent that started it, and would become a child of PID 1, which in a
container often reaps nothing. The flag is kept across the processes' own forks, not inherited
by them. Used by `deploy.supervise` alone.
"""

from __future__ import annotations

import ctypes
import os

from supervisor import supervisord

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main() -> None:
    if os.fork():
        os._exit(0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become the child subreaper")
    os.chdir("/")
    supervisord.main()


if __name__ == "__main__":
    main()
