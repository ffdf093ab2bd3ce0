"""Messages whose properties py-amqp cannot decode, which would end whoever reads the queue.

RabbitMQ hands on what a sender wrote: a time stamp beyond all calendars, a name that is no UTF-8,
tables within tables. Such a message comes without any property, so that it is looked at and refused
like every other one (`cloud.admission`), instead of being delivered again and again.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import structlog
from amqp import serialization
from amqp.exceptions import FrameSyntaxError
from amqp.spec import Basic

log = structlog.get_logger(__name__)

# ValueError: also what is no UTF-8, and years that no date has. OSError: what `gmtime` refuses.
_UNREADABLE: Final = (
    ValueError,
    OverflowError,
    OSError,
    RecursionError,
    IndexError,
    TypeError,
    struct.error,
    FrameSyntaxError,
)


def outlive_unreadable() -> None:
    """From now on no message ends this process by its properties. Safe to repeat."""
    readers: dict[int, Any] = serialization.PROPERTY_CLASSES  # the stubs take it for classes
    readers[Basic.CLASS_ID] = read


def read(buffer: Any, offset: int) -> tuple[dict[str, Any], int]:
    """What stands in a content header, and where it ends; nothing if it cannot be decoded."""
    try:
        properties, end = serialization.decode_properties_basic(buffer, offset)
    except _UNREADABLE as error:
        log.error("a message's properties cannot be read", error=type(error).__name__)
        return {}, len(buffer)
    return properties, end
