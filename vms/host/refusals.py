"""What a host answers to a document that it cannot take: why, in a form that all releases read.

Until the sides speak one language again, whatever the document is about stays as it is.
"""

from __future__ import annotations

from typing import Any

import structlog

from cloud.errors import CumuletError
from cloud.version import VERSION
from cloud.wire import WIRE_VERSION, MalformedDocument, Refusal, convert

log = structlog.get_logger(__name__)

_MESSAGE = 1000
# Where each task's document has the number of what it is about; others are about nothing.
_NUMBERS = {
    "vms.ensure": ("vm_id",),
    "vms.remove": ("vm_id",),
    "networks.ensure": ("network_id",),
    "networks.remove": ("network_id",),
    "images.fetch": ("image", "image_id"),
}


def refusal(host_uuid: str, task: str, document: object, error: CumuletError) -> Refusal | None:
    """The answer; None to what does not even say what it is about."""
    number: Any = document if task in _NUMBERS else None
    for key in _NUMBERS.get(task, ()):
        number = number.get(key) if isinstance(number, dict) else None
    generation = document.get("generation", 0) if isinstance(document, dict) else None
    answer = {
        "host_uuid": host_uuid,
        "task": task,
        "number": number,
        "generation": generation,
        "failure": {
            "code": error.code,
            "message": error.message[:_MESSAGE],
            "retryable": error.retryable,
        },
        "agent_version": VERSION,
        "wire_version": WIRE_VERSION,
    }
    try:
        return convert(answer, Refusal)
    except MalformedDocument as unclear:
        log.error("document refused, and nobody told", task=task, reason=unclear.message)
        return None
