"""How often a token may ask, and the headers that tell it.

Each token has a bucket with an hour's worth of requests, refilled evenly: the cloud's usual number,
or its own if an operator gave it one. People with a session have one each.
"""

from __future__ import annotations

from django.conf import settings

from cloud import buckets
from cloud.actor import Actor
from cloud.buckets import Level, Size


def take(asker: Actor, an_hour: int | None) -> Level:
    """Count one request of the caller. `an_hour`: its own limit, None: the usual one."""
    return buckets.take(f"api:{asker.kind.value}:{asker.id}", _size(an_hour))


def untouched() -> Level:
    """What a caller is told whom nobody knows."""
    size = _size(None)
    return Level(size, size.burst)


def _size(an_hour: int | None) -> Size:
    requests = an_hour or settings.API_REQUESTS_PER_HOUR
    return Size(requests, requests)
