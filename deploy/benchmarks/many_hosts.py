"""`deploy/bench --faults many`: what a large cloud at rest costs its control plane."""

from __future__ import annotations

import time
from contextlib import closing

from deploy import broker, control, postgres
from deploy.benchmarks import deployment
from deploy.benchmarks.fleet import stage
from deploy.benchmarks.fleet.hosts import Fleet, PlayedHost
from deploy.benchmarks.fleet.measure import Spent, Watcher
from deploy.steps import Steps

HOSTS, VMS, OPEN_HOSTS = 500, 10_000, 4
# Every host has told everything by then.
_SETTLE_SECONDS = 20.0


def measure(seconds: float, steps: Steps) -> Spent:
    with deployment.own_instance() as instance:
        scene = stage.set_up(instance, steps, hosts=HOSTS, vms=VMS, open_hosts=OPEN_HOSTS)
        hosts = [
            PlayedHost(host["name"], host["uuid"], host["vms"], host["networks"])
            for host in scene.inventory["hosts"]
        ]
        with Fleet(hosts, scene.url_of) as fleet, closing(Watcher(scene.cloud)) as watcher:
            fleet.play()
            with steps.step("Settling"):
                time.sleep(_SETTLE_SECONDS)
            with steps.step(f"{HOSTS} hosts, {VMS} servers, {seconds:g} s"):
                programs = (control.WORKER, control.BEAT, postgres.NAME, broker.NAME)
                sent = fleet.sent
                with watcher.spending(programs) as spent:
                    time.sleep(seconds)
                print("sent/s", (fleet.sent - sent) / seconds, "late", fleet.late)
            print(
                spent.statements / spent.seconds,
                {k: v / spent.seconds for k, v in spent.processor.items()},
            )
            for line in spent.often:
                print(line[0], round(line[1]), line[2][:200].replace("\n", " "))
            print(scene.run("sweeps", "5"))
    return spent


if __name__ == "__main__":
    with Steps() as steps:
        measure(60, steps)
