"""Users at work while something fails: 30 creates and 30 deletes a minute through the API.

Each server of the load has a life of its own: asked for, waited for, deleted, waited for. Its user
repeats what was not answered, with the same `Idempotency-Key`, and takes a typed refusal for an
answer. So a life ends in one of three ways: it was whole, it met a typed failure, or it is stuck,
which is a defect, as is every answer that is no answer of the API.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from deploy.benchmarks import fault_records

# Thirty a minute; a machine that is busy with other things may be given more time.
PERIOD_SECONDS = float(os.environ.get("CUMULET_FAULT_LOAD_SECONDS", "2"))
# An Action that is not over by then is stuck: longer than any outage of these tests and the
# back-off after it.
PATIENCE_SECONDS = 200.0
# What is answered within that is repeated at once, what is not after a pause.
ANSWER_SECONDS = 30.0
_PAUSES = (0.3, 0.3, 0.5, 1.0, 2.0)
# Who waits is not joined by ever more: as many as an outage of a minute makes wait, and some.
_MOST_AT_ONCE = 45


class Refused(Exception):
    """The API's own answer to a request that it did not carry out, or an Action's error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass
class Tally:
    """What became of the load. `failures` by typed code; `defects` are never allowed."""

    created: int = 0
    deleted: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)

    @property
    def record(self) -> fault_records.Load:
        return fault_records.Load(self.created, self.deleted, self.failures.total())


@dataclass
class Life:
    """Times on the monotonic clock; `action`: of its creation, `seconds`: until that ended."""

    name: str
    began: float
    action: int = 0
    seconds: float = 0.0


class Load:
    """Starts with the context and asks for no more at its end; `wait` sees all lives out."""

    def __init__(self, api_url: str, token: str, image: str) -> None:
        self._http = httpx.Client(
            base_url=api_url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=ANSWER_SECONDS,
            limits=httpx.Limits(max_connections=_MOST_AT_ONCE),
        )
        self._image = image
        self._mark = uuid.uuid4().hex[:6]
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._alive: dict[str, Life] = {}
        self._whole: list[Life] = []
        self._tally = Tally()
        self._pool = ThreadPoolExecutor(_MOST_AT_ONCE, "load")
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def start(self) -> None:
        self._ticker.start()

    def stop(self) -> None:
        """Begin no more lives."""
        self._stopped.set()
        self._ticker.join()

    def wait(self) -> Tally:
        """See all lives out, after `stop`."""
        self._pool.shutdown()
        self._http.close()
        return self._tally

    def open_since_before(self, moment: float) -> int:
        """How many lives that began before the moment are not over."""
        with self._lock:
            return sum(life.began < moment for life in self._alive.values())

    def whole_since(self, moment: float) -> int:
        """How many lives that began after the moment went as they should."""
        with self._lock:
            return sum(life.began >= moment for life in self._whole)

    def was_told(self, code: str) -> bool:
        """Whether a user had to repeat a request because of an answer with this code."""
        with self._lock:
            return bool(self._tally.repeated[code])

    def creations(self, since: float) -> dict[int, float]:
        """Seconds that each creation took which was asked for after the moment, by its Action."""
        with self._lock:
            return {life.action: life.seconds for life in self._whole if life.began >= since}

    @property
    def defects(self) -> list[str]:
        return list(self._tally.defects)

    def _tick(self) -> None:
        due = time.monotonic()
        number = 0
        while not self._stopped.wait(max(due - time.monotonic(), 0)):
            due += PERIOD_SECONDS
            if len(self._alive) >= _MOST_AT_ONCE:
                continue
            number += 1
            self._pool.submit(self._live, f"load-{self._mark}-{number}")

    def _live(self, name: str) -> None:
        life = Life(name, time.monotonic())
        with self._lock:
            self._alive[name] = life
        try:
            server = self._create(life)
            with self._lock:
                self._tally.created += 1
            self._delete(server)
            with self._lock:
                self._tally.deleted += 1
                self._whole.append(life)
        except Refused as refused:
            with self._lock:
                self._tally.failures[refused.code] += 1
        except Exception as error:
            with self._lock:
                self._tally.defects.append(f"{name}: {error!r}")
        finally:
            with self._lock:
                del self._alive[name]

    def _create(self, life: Life) -> int:
        body = {"name": life.name, "server_type": "nano", "image": self._image}
        answer = self._write("POST", "/servers", body)
        server, life.action = int(answer["server"]["id"]), int(answer["action"]["id"])
        try:
            for action in [answer["action"], *answer["next_actions"]]:
                self._see_out(action)
            life.seconds = time.monotonic() - life.began
        except Refused:
            # Whatever became of it, its user does not want it any more.
            self._delete(server)
            raise
        return server

    def _delete(self, server: int) -> None:
        try:
            answer = self._write("DELETE", f"/servers/{server}", None)
        except Refused as refused:
            if refused.code == "not_found":
                return
            raise
        self._see_out(answer["action"])

    def _see_out(self, action: dict[str, Any]) -> None:
        """Wait for the Action's end; raises Refused if it is an error."""
        began, pauses = time.monotonic(), _pauses()
        while action["status"] == "running":
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise TimeoutError(f"stuck: {action}")
            time.sleep(next(pauses))
            action = self._ask("GET", f"/actions/{action['id']}")["action"]
        if action["error"]:
            raise Refused(action["error"]["code"], action["error"]["message"])

    def _write(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        return self._ask(method, path, body, {"Idempotency-Key": uuid.uuid4().hex})

    def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """The answer, however often it has to be asked for; raises Refused."""
        began, pauses = time.monotonic(), _pauses()
        while True:
            try:
                answer = self._http.request(method, path, json=body, headers=headers)
            except httpx.TransportError as error:
                code = type(error).__name__
            else:
                content = _typed(answer)
                if answer.is_success:
                    return content
                code = content["error"]["code"]
                if answer.status_code not in (409, 423, 503):
                    raise Refused(code, content["error"]["message"])
            with self._lock:
                self._tally.repeated[code] += 1
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise TimeoutError(f"{method} {path} is still answered with {code}")
            time.sleep(next(pauses))


def _typed(answer: httpx.Response) -> dict[str, Any]:
    """The JSON of the answer; one that is none of the API's own is a defect."""
    content: dict[str, Any] = answer.json()
    if not answer.is_success and (
        answer.status_code == 500 or not content["error"]["code"] or not content["error"]["message"]
    ):
        raise AssertionError(f"{answer.status_code}: {answer.text[:300]}")
    return content


def _pauses() -> Iterator[float]:
    yield from _PAUSES
    while True:
        yield _PAUSES[-1]
