"""The agent's and the monitor's code of a host without privileges, in a process of that user.

`tests.host.rootless` starts it and talks to it over its standard input and output, a line of JSON
each: calls come in, reports go out and are answered as a broker would.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TextIO

from cloud.hostconfig import HostConfig
from cloud.wire import decode, encode
from networks.spec import NetworkRemoval, NetworkSpec
from vms.host import census, facts, inbox
from vms.host.host import Host
from vms.host.monitor import Monitor
from vms.host.outbox import Outbox
from vms.spec import VmRemoval, VmSpec


class Agent:
    def __init__(self, reports: TextIO) -> None:
        self._reports = reports
        self._host = Host.open(HostConfig.from_environment())
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[bool]] = {}
        self._writing = threading.Lock()
        self._stop: Callable[[], object] = lambda: None

    def serve(self) -> None:
        """Until standard input ends, as it does with whoever started this."""
        self._write(uuid=self._host.uuid)
        with ThreadPoolExecutor() as pool:
            for line in sys.stdin:
                message = json.loads(line)
                if "answer" in message:
                    self._waiting.pop(message["answer"]).set_result(message["value"])
                else:
                    pool.submit(self._call, message)
            self._stop()

    def _call(self, message: dict[str, Any]) -> None:
        try:
            value = getattr(self, message["name"])(*message["arguments"])
            self._write(returned=message["call"], value=value)
        except Exception as error:
            self._write(returned=message["call"], error=f"{type(error).__name__}: {error}")

    def ensure(self, document: dict[str, Any]) -> None:
        inbox.ensure(self._host, decode(document, VmSpec), self._sender("vm"))

    def remove(self, document: dict[str, Any]) -> None:
        inbox.remove(self._host, decode(document, VmRemoval), self._sender("vm"))

    def network(self, document: dict[str, Any]) -> None:
        kind = NetworkSpec if "vni" in document else NetworkRemoval
        wanted: NetworkSpec | NetworkRemoval = decode(document, kind)
        inbox.network(self._host, wanted, self._sender("network"), self._sender("vm"))

    def facts(self) -> dict[str, Any]:
        return encode(facts.host_report(self._host))

    def census(self) -> dict[str, Any]:
        return encode(census.look(self._host))

    def watch(self) -> None:
        """Run the monitor until `unwatch`."""
        kinds = ("vm", "unchanged", "host", "image", "usage", "network", "inventory")
        monitor = Monitor(self._host, Outbox(*map(self._sender, kinds)), usage_seconds=0.5)
        ready = threading.Event()

        async def serve() -> None:
            task = asyncio.ensure_future(monitor.run())
            loop = asyncio.get_running_loop()
            self._stop = lambda: loop.call_soon_threadsafe(task.cancel)
            ready.set()
            await asyncio.wait([task])

        self._watching = threading.Thread(target=lambda: asyncio.run(serve()))
        self._watching.start()
        ready.wait()

    def unwatch(self) -> None:
        self._stop()
        self._watching.join()

    def _sender(self, kind: str) -> Callable[[Any], bool]:
        def send(report: Any) -> bool:
            number, answer = next(self._numbers), Future[bool]()
            self._waiting[number] = answer
            self._write(report=number, kind=kind, document=encode(report))
            return answer.result()

        return send

    def _write(self, **message: Any) -> None:
        with self._writing:
            print(json.dumps(message), file=self._reports, flush=True)


if __name__ == "__main__":
    reports, sys.stdout = sys.stdout, sys.stderr  # logs go elsewhere
    Agent(reports).serve()
