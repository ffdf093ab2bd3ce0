"""How much somebody may do: so much at once, and so much per second in the long run. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Allowance:
    """A token bucket; begins full. `rate` tokens a second, at most `burst` saved. Times in
    seconds by any clock that only goes forward."""

    rate: float
    burst: float
    _left: float = -1.0
    _at: float = 0.0

    def take(self, now: float) -> bool:
        """Take one token; False: there is none, and none was taken."""
        left = self.burst if self._left < 0 else self._left + (now - self._at) * self.rate
        left, self._at = min(left, self.burst), now
        self._left = left - 1 if left >= 1 else left
        return left >= 1
