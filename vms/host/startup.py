"""The host as its agent serves it: opened with the first task, for as long as the process lives."""

from __future__ import annotations

from functools import cache

from cloud.agent import config
from vms.host import accelerator, bridging
from vms.host.host import Host


@cache
def host() -> Host:
    opened = Host.open(config())
    bridging.prepare(opened)
    accelerator.reconsider(opened)
    return opened
