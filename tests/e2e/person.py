"""An ordinary user of this machine with a checkout, who is made for a test and gone after it.

The home can be looked into by others, so that it shows what the cloud keeps to itself.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from cloud import shell
from deploy import processes, state

NOT_CLONED = shutil.ignore_patterns(".git", ".cumulet", ".*_cache", "__pycache__")


@dataclass(frozen=True)
class Person:
    """A user of this machine with a checkout, and nothing but what a login gives."""

    name: str
    uid: int
    home: Path

    @property
    def checkout(self) -> Path:
        return self.home / "cumulet"

    @property
    def state(self) -> Path:
        return self.checkout / ".cumulet"

    def types(self, line: str, *, ok: range = range(1), timeout: float = 600) -> shell.Result:
        """A command line in the checkout."""
        become = ["setpriv", "--reuid", self.name, "--regid", self.name, "--init-groups"]
        clean = ["env", "-i", f"HOME={self.home}", f"PATH={os.environ['PATH']}", "LANG=C.UTF-8"]
        clean.append(f"CUMULET_STARTED={time.time()}")
        argv = [*become, *clean, "bash", "-c", line]
        return shell.run(argv, timeout=timeout, cwd=self.checkout, ok=ok)

    def server(self) -> dict[str, Any]:
        """The only server, as the API shows it."""
        (found,) = self.asks("/servers")["servers"]
        server: dict[str, Any] = found
        return server

    def asks(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The API's answer; with a body to a POST."""
        ask = 'curl -sf -H "Authorization: Bearer $HCLOUD_TOKEN"'
        if body is not None:
            said = shlex.quote(json.dumps(body))
            ask += f" -H 'Content-Type: application/json' --data {said}"
        told = self.types(f". .cumulet/env && {ask} $HCLOUD_ENDPOINT{path}").stdout
        answer: dict[str, Any] = json.loads(told)
        return answer

    def in_guest(self, command: str, how: str = "first") -> str:
        ssh = f"ssh -F .cumulet/ssh_config {how} {shlex.quote(command)}"
        return self.types(ssh).stdout.strip()

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess):
                if process.uids().real == self.uid and processes.alive(process):
                    found.append(process)
        return found


@contextmanager
def living(scratch: Path) -> Iterator[Person]:
    """`scratch`: a directory of the test's own."""
    name = f"cut-{secrets.token_hex(3)}"
    home = Path("/var/tmp") / name
    # Makes the virtual environment that users share, and finds no cloud.
    nothing = {"CUMULET_STATE": str(scratch / "none")}
    shell.run([state.CHECKOUT / "deploy" / "down"], timeout=300, env=nothing)
    shell.run(["useradd", "--create-home", "--home-dir", home, name], timeout=30)
    try:
        person = Person(name, pwd.getpwnam(name).pw_uid, home)
        home.chmod(0o755)
        shutil.copytree(state.CHECKOUT, person.checkout, ignore=NOT_CLONED)
        shell.run(["chown", "-R", f"{name}:", person.checkout], timeout=60)
        yield person
        processes.end(person.processes(), patience=10)
    finally:
        shell.run(["userdel", "--force", "--remove", name], timeout=30, ok=range(256))
