"""Which tests run beside each other in `deploy/test`: every lane is one process at a time.

What shares costly parts (a cloud, a database) is one lane. Most tests wait for processes and
guests, so lanes side by side take much less time than one after the other.
"""

from __future__ import annotations

from pathlib import PurePath

from xdist.scheduler import LoadScopeScheduling

# In the order in which they begin. A typing mistake shows at once. What needs a broker for itself
# comes before a cloud of the same process has workers there, and short lanes fill the end.
_ORDER = (
    *("unit", "test_architecture", "db", "api", "web"),
    *("faults", "e2e", "simulation", "alone", "host"),
)
# Each of them makes clouds of its own.
_ALONE = ("test_deploy", "test_rootless_deploy", "test_upgrade")


class Lanes(LoadScopeScheduling):
    """Gives whole lanes to pytest-xdist's processes, in the order of `rank`."""

    def _split_scope(self, nodeid: str) -> str:
        return lane(PurePath(nodeid.partition("::")[0]).relative_to("tests"))


def lane(path: PurePath) -> str:
    """The lane of a test file, by its path below tests/."""
    if path.parts[0] == "host" or path.stem in _ALONE or len(path.parts) == 1:
        return path.stem
    return "faults" if "faults" in path.parts else path.parts[0]


def rank(path: PurePath) -> int:
    """When its lane begins."""
    if path.stem in _ALONE:
        return _ORDER.index("alone")
    return _ORDER.index(path.parts[0] if path.parts[0] == "host" else lane(path))
