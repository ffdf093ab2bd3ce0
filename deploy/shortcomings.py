"""What a cloud that an ordinary user started cannot do on this machine, in a line each.

`deploy/up` says so before it begins, with what root has to do once where that would mend it.
`lines` is pure.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from deploy.places import user_name

_KVM = Path("/dev/kvm")
_LINGER = Path("/var/lib/systemd/linger")


@dataclass(frozen=True)
class Facts:
    """`kvm`: whether /dev/kvm may be opened, None: there is none. `session_bound`: the run
    directory goes with the user's last login session.
    """

    user: str
    kvm: bool | None
    session_bound: bool

    @classmethod
    def of_this_machine(cls, run: Path) -> Facts:
        user = user_name(os.geteuid())
        of_session = run.is_relative_to(f"/run/user/{os.geteuid()}")
        return cls(
            user=user,
            kvm=os.access(_KVM, os.R_OK | os.W_OK) if _KVM.exists() else None,
            session_bound=of_session and not (_LINGER / user).exists(),
        )


def lines(facts: Facts) -> list[str]:
    said = [
        "no lab and no public addresses, which need root: servers are reached by forwarded ports of"
        " 127.0.0.1",
        f"no users of its own for each service: everything runs as {facts.user}, and whoever breaks"
        " out of a guest is that user",
    ]
    if facts.kvm is None:
        said.append("no KVM, because there is no /dev/kvm: guests are emulated, slowly")
    elif not facts.kvm:
        said.append(
            "no KVM, because /dev/kvm is closed to you: guests are emulated, slowly, until root"
            f" says `usermod --append --groups kvm {facts.user}` and you log in anew"
        )
    if facts.session_bound:
        said.append(
            "not beyond your last logout, which takes /run/user away: to stay up,"
            f" `loginctl enable-linger {facts.user}`"
        )
    return said
