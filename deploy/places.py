"""Where a cloud's files lie and as whom its programs run: as root has it, or an ordinary user.

Decided once, by who started the command (`HERE`). Root's clouds have directories of the system,
service users and a lab. A user's cloud lies in that user's own directories (as the XDG base
directory specification names them), and all of its programs are the user's.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SYSTEM_CACHE = Path("/var/cache/cumulet")


@dataclass(frozen=True)
class Places:
    """`data`, `cache`: where those of all clouds lie. `run`: the same for sockets and pid files,
    None where the system has no such place for the user: they are beside the cloud's state then.
    """

    root: bool
    data: Path
    run: Path | None
    cache: Path

    @classmethod
    def of(cls, uid: int, home: Path, env: Mapping[str, str]) -> Places:
        if uid == 0:
            return cls(True, Path("/var/lib/cumulet"), Path("/run/cumulet"), _SYSTEM_CACHE)
        data = Path(env.get("XDG_DATA_HOME") or home / ".local/share")
        cache = Path(env.get("XDG_CACHE_HOME") or home / ".cache")
        run = Path(env.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}")
        # The variable of another user's session outlives `su`.
        own_run = run.is_dir() and run.stat().st_uid == uid
        return cls(False, data / "cumulet", run / "cumulet" if own_run else None, cache / "cumulet")

    def account(self, name: str) -> str | None:
        """The user that a program drops to; None: it stays the user who started the cloud."""
        return name if self.root else None

    @property
    def shared_cache(self) -> Path | None:
        """A cache that others filled and this user may only read."""
        return None if self.root else _SYSTEM_CACHE


def user_name(uid: int) -> str:
    """As people know the user, or the number of one that is not listed."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


HERE = Places.of(os.geteuid(), Path.home(), os.environ)
