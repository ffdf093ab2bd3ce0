"""How much a guest may receive: a token bucket on its TAP (tc-tbf(8)), by netlink.

What it may send is limited by its table of rules, where packets come in.
"""

from __future__ import annotations

from typing import Any

from networks.host.links import index_of

_BYTES_PER_MBIT = 125_000
# As long as the kernel may take until it looks again; a frame of TCP segments is 64 KiB at most.
_BURST_SECONDS = 0.01
_LEAST_BURST = 64 * 1024
_LATENCY = "50ms"
_KIND, _HANDLE, _ROOT = "tbf", "1:", 0xFFFFFFFF  # TC_H_ROOT, linux/pkt_sched.h


def ensure_limit(netlink: Any, name: str, mbit: int | None) -> None:
    """At most `mbit` Mbit/s towards the guest; None: as much as comes."""
    index = index_of(netlink, name)
    if mbit is None:
        kinds = {queue.get_attr("TCA_KIND") for queue in netlink.get_qdiscs(index=index)}
        if _KIND in kinds:
            netlink.tc("del", index=index, handle=_HANDLE, parent=_ROOT)
        return
    rate = mbit * _BYTES_PER_MBIT
    burst = max(_LEAST_BURST, int(rate * _BURST_SECONDS))
    bucket = {"rate": rate, "burst": burst, "latency": _LATENCY}
    netlink.tc("replace", _KIND, index, _HANDLE, **bucket)
