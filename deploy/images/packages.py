"""The Debian archive, through mmdebstrap: which versions it offers, and a tree made of them.

The guests are Debian 12 whatever the building machine runs, so its own apt configuration is not
asked. CUMULET_DEBIAN_MIRROR names another mirror than Debian's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from cloud import shell
from deploy.images.errors import ArchiveUnreachable

SUITE = "bookworm"
MIRROR_VARIABLE = "CUMULET_DEBIAN_MIRROR"

_SIMULATED = re.compile(r"^Inst (\S+) \((\S+) ", re.MULTILINE)


def offered(variant: str, packages: Sequence[str]) -> dict[str, str]:
    """The name and version of everything that would be installed; asks the archive (2-5 s)."""
    try:
        answer = shell.run(
            [*_mmdebstrap(variant, packages), "--verbose", "--simulate", *_source("/dev/null")],
            timeout=120,
        )
    except shell.CommandFailed as error:
        raise ArchiveUnreachable(error.message) from error
    return parse_simulation(answer.stdout + answer.stderr)


def parse_simulation(output: str) -> dict[str, str]:
    """Package names and versions from what `apt-get --simulate install` printed."""
    return dict(_SIMULATED.findall(output))


def install(
    variant: str, packages: Sequence[str], target: Path, options: Sequence[str] = ()
) -> None:
    """Make a tree of the packages: a directory, or a tar file if `target` ends in .tar."""
    command = [*_mmdebstrap(variant, packages), "--quiet", *options, *_source(str(target))]
    shell.run(contained(command), timeout=1800, env={"TMPDIR": str(target.parent)})


def contained(command: Sequence[str]) -> list[str]:
    """`command`, its mounts and its processes in namespaces that end with whoever started it.

    So a builder that is killed, however hard, leaves no mount, no loop device and no process.
    Only root can make them; without root nothing is mounted in the first place.
    """
    if os.geteuid() != 0:
        return list(command)
    tied = ["setpriv", "--pdeathsig", "KILL", "--"]
    own = ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "--"]
    return [*tied, *own, *command]


def _mmdebstrap(variant: str, packages: Sequence[str]) -> list[str]:
    return [
        "mmdebstrap",
        "--architectures=amd64",
        f"--variant={variant}",
        # Nothing of the packages is run, so that an ordinary user needs no way to enter the tree.
        *(["--mode=chrootless"] if variant == "extract" and os.geteuid() != 0 else []),
        *([f"--include={','.join(packages)}"] if packages else []),
    ]


def _source(target: str) -> list[str]:
    mirror = os.environ.get(MIRROR_VARIABLE)
    return [SUITE, target, *([mirror] if mirror else [])]
