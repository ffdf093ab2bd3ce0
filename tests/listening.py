"""Control's own worker app, which opens the lanes of the hosts named in LANES_OF as it starts."""

from __future__ import annotations

import json
import os
from typing import Any

from celery.signals import worker_ready

from cloud import lanes
from cloud.celery import app as app  # the worker's


@worker_ready.connect
def _open(**_: Any) -> None:
    lanes.serve(json.loads(os.environ["LANES_OF"]))
