"""What a guest in user mode has sent and received, as the guest itself sees it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Traffic:
    """Frames and bytes since whoever counts them began."""

    packets_in: int
    packets_out: int
    bytes_in: int
    bytes_out: int
