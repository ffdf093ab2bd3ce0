"""`deploy/bench --against REV`: this checkout beside another revision, each as a whole cloud.

What a change costs shows only beside the code without it, on the same machine and at the same
time. Both clouds are brought up by their own `deploy/up` and asked in turns; the clock starts
before POST /v1/servers and stops when the Action that waits for the running server has ended, by
the time that control itself wrote down. So nothing is asked while the clock runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from cloud import shell
from deploy.benchmarks.errors import BenchmarkFailed
from deploy.state import CHECKOUT
from deploy.steps import Steps

_UP_SECONDS = 900.0
_SERVER_SECONDS = 60.0
_PAUSE_SECONDS = 0.4
# A running guest would take its part of the processors: the server is gone before the next turn.
_SERVER = {"server_type": "nano", "image": "micro"}


@dataclass(frozen=True)
class Revision:
    """A cloud of one revision's code; `directory` is a checkout of it."""

    name: str
    directory: Path
    state: Path

    def deploy(self, *command: str) -> None:
        argv: list[str | Path] = [self.directory / "deploy" / command[0], *command[1:]]
        shell.run(argv, timeout=_UP_SECONDS, env={"CUMULET_STATE": str(self.state)})

    def settings(self) -> dict[str, str]:
        """What `deploy/up` wrote for its users' shells."""
        lines = (self.state / "env").read_text().splitlines()
        pairs = (
            line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("e")
        )
        return {name: value.strip("'") for name, value in pairs}


class Asker:
    """Creates one server after the other in one cloud."""

    def __init__(self, revision: Revision) -> None:
        self.name = revision.name
        settings = revision.settings()
        self._count = 0
        self._http = httpx.Client(
            base_url=settings["HCLOUD_ENDPOINT"],
            headers={"Authorization": f"Bearer {settings['HCLOUD_TOKEN']}"},
            timeout=30,
        )

    def close(self) -> None:
        self._http.close()

    def measure(self) -> float:
        """Seconds from the request to a running server."""
        self._count += 1
        self._get("/locations")  # a connection that idled too long is made anew before the clock
        began = time.time()
        body = {**_SERVER, "name": f"bench-{self._count}"}
        answer = self._checked(self._http.post("/servers", json=body))
        server = int(answer["server"]["id"])
        try:
            return self._finished(int(answer["next_actions"][0]["id"])) - began
        finally:
            self._delete(server)

    def _finished(self, action: int) -> float:
        """When the Action ended, in Unix time."""
        deadline = time.monotonic() + _SERVER_SECONDS
        while time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
            seen = self._get(f"/actions/{action}")["action"]
            if seen["status"] == "success":
                return datetime.fromisoformat(seen["finished"]).timestamp()
            if seen["status"] == "error":
                raise BenchmarkFailed(f"{self.name}: a server was not made: {seen['error']}")
        raise BenchmarkFailed(f"{self.name}: no server within {_SERVER_SECONDS:g} s")

    def _delete(self, server: int) -> None:
        self._checked(self._http.delete(f"/servers/{server}"))
        deadline = time.monotonic() + _SERVER_SECONDS
        while self._http.get(f"/servers/{server}").status_code != httpx.codes.NOT_FOUND:
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"{self.name}: server {server} was not deleted")
            time.sleep(_PAUSE_SECONDS)

    def _get(self, path: str) -> Any:
        return self._checked(self._http.get(path))

    def _checked(self, answer: httpx.Response) -> Any:
        if answer.is_error:
            raise BenchmarkFailed(f"{self.name}: {answer.url.path}: {answer.text[:500]}")
        return answer.json()


def compare(home: Path, revision: str, rounds: int, steps: Steps) -> dict[str, list[float]]:
    """Seconds from request to running server, of this checkout ("here") and of `revision`.

    Raises BenchmarkFailed or CommandError.
    """
    with ExitStack() as stack:
        with steps.step(f"Checkout of {revision}"):
            other = _checkout(home, revision)
        contenders = [
            Revision("here", CHECKOUT, home / "here"),
            Revision(revision, other, home / "there"),
        ]
        askers = []
        for contender in contenders:
            with steps.step(f"Cloud of {contender.name}"):
                stack.enter_context(_running(contender))
            askers.append(Asker(contender))
            stack.callback(askers[-1].close)
        with steps.step("Warming up, two turns each that do not count"):
            for asker in (*askers, *askers):
                asker.measure()
        with steps.step(f"{rounds} rounds in turns") as step:
            return _measure(askers, rounds, step.progress)


def _measure(askers: Sequence[Asker], rounds: int, progress: Any) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {asker.name: [] for asker in askers}
    for number in range(1, rounds + 1):
        progress(f"round {number}")
        # Who comes first changes, because the second may find the machine still busy.
        for asker in askers if number % 2 else reversed(askers):
            samples[asker.name].append(asker.measure())
    return samples


def _checkout(home: Path, revision: str) -> Path:
    """The files of a revision, without touching this checkout."""
    target = home / "revision"
    shell.run(["rm", "-rf", target], timeout=60)
    target.mkdir(parents=True)
    archive = home / "revision.tar"
    shell.run(["git", "-C", CHECKOUT, "archive", "-o", archive, revision], timeout=60)
    shell.run(["tar", "-xf", archive, "-C", target], timeout=60)
    archive.unlink()
    return target


@contextmanager
def _running(revision: Revision) -> Iterator[None]:
    """The revision's cloud with a micro guest's image; nothing of it is left after."""
    try:
        revision.deploy("up", "--guest", "micro", "--hosts", "2")
        yield
    finally:
        revision.deploy("down", "--purge")
