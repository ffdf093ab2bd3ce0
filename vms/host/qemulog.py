"""What QEMU itself says, passed on into the host's log: one format, and the id of the request.

QEMU appends to a file of its own, because it outlives whoever started it. Whoever holds the VM's
converge lock calls `pass_on`, so every line comes once. A guest can make QEMU talk without end:
one round takes a bounded part, and the rest is skipped and counted.
"""

from __future__ import annotations

import structlog

from vms.host.paths import VmPaths

log = structlog.get_logger(__name__)

_MOST_BYTES = 16 * 1024
_MOST_CHARACTERS = 2000


def pass_on(paths: VmPaths, read: int) -> int:
    """Log what was added since byte `read`; answers where to go on."""
    try:
        with paths.log.open("rb") as file:
            size = file.seek(0, 2)
            if size <= read:
                return size  # nothing new, or it was trimmed meanwhile
            file.seek(max(read, size - _MOST_BYTES))
            said = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return 0
    if size - len(said) > read:
        log.warning("qemu said too much", skipped_bytes=size - len(said) - read)
    for line in said.decode(errors="replace").splitlines():
        if line.strip():
            log.warning("qemu", said=line[:_MOST_CHARACTERS])
    return size
