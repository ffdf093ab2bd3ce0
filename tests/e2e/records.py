"""How long recoveries took, for whoever collects them: a JSON line each."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def recovered(fault: str, seconds: float, load: Mapping[str, Any] | None = None) -> None:
    """Note it in the file that CUMULET_FAULT_RECORDS names, if it does."""
    if place := os.environ.get("CUMULET_FAULT_RECORDS"):
        line = {
            "kind": "fault",
            "fault": fault,
            "recovery_seconds": round(seconds, 3),
            "load": dict(load or {}),
        }
        with Path(place).open("a") as file:
            file.write(f"{json.dumps(line)}\n")
