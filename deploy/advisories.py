"""`deploy/audit`: are there known weaknesses in what the pinned packages are?

pip-audit asks; but it says "no known vulnerabilities" as well where its source knows none of the
packages, as behind a mirror that carries packages without their advisories. So its answers are
counted here: what nobody knew anything about was not checked, and is never said to be good.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, Any, Final

import typer

from cloud import shell

# In this order, each only if those before knew nothing.
SOURCES: Final = ("pypi", "osv")
_SECONDS: Final = 600.0


class Exit(IntEnum):
    """What the command ends with, for programs."""

    GOOD = 0
    WEAK = 1
    UNKNOWN = 3


@dataclass(frozen=True)
class Verdict:
    """`checked`: how many packages a source knew; `unknown`: names of all others; `weak`: a line
    for each weakness that is known.
    """

    checked: int = 0
    unknown: list[str] = field(default_factory=list)
    weak: list[str] = field(default_factory=list)

    @property
    def exit(self) -> Exit:
        if self.weak:
            return Exit.WEAK
        return Exit.GOOD if self.checked and not self.unknown else Exit.UNKNOWN

    def lines(self) -> list[str]:
        """For people; each says what to do next."""
        found = list(self.weak)
        if self.weak:
            found.append("Raise these versions in requirements.txt, then run deploy/test.")
        if self.checked:
            found.append(f"{self.checked} packages checked, {len(self.weak)} weaknesses known.")
        if self.unknown and self.checked:
            found.append(f"NOT checked, no source knows them: {', '.join(self.unknown)}")
        if not self.checked:
            found.append(
                "NOTHING was checked: no source of advisories is reachable from here. Run"
                " deploy/audit where one is, with the same checkout: its versions are pinned."
            )
        return found


def verdict(report: dict[str, Any]) -> Verdict:
    """What pip-audit's report in JSON really says."""
    result = Verdict()
    known = 0
    for package in report.get("dependencies", []):
        name = package["name"]
        if "skip_reason" in package:
            result.unknown.append(name)
            continue
        known += 1
        for weakness in package.get("vulns", []):
            mended = ", ".join(weakness.get("fix_versions") or ["none yet"])
            what = f"{name} {package['version']}: {weakness['id']}"
            result.weak.append(f"{what}, mended in {mended}")
    return Verdict(known, sorted(result.unknown), result.weak)


def ask(source: str) -> Verdict:
    """All packages of this environment; of what cannot be reached nothing is known."""
    words = ["pip_audit", "--local", "--progress-spinner", "off", "-f", "json", "-s", source]
    result = shell.run([sys.executable, "-m", *words], timeout=_SECONDS, ok=range(256))
    try:
        report = json.loads(result.stdout)
    except ValueError:
        return Verdict()
    return verdict(report if isinstance(report, dict) else {})


def main(
    source: Annotated[
        list[str] | None, typer.Option(help="Which source of pip-audit to ask; may be repeated.")
    ] = None,
) -> None:
    """Ask sources of advisories about every installed package.

    Ends with 0 if all were checked and none is weak, with 1 if one is, with 3 if some or all could
    not be checked.
    """
    best = Verdict()
    for one in source or SOURCES:
        answer = ask(one)
        if answer.checked > best.checked:
            best = answer
        if best.checked:
            break
    for line in best.lines():
        print(line)
    raise typer.Exit(best.exit)


if __name__ == "__main__":
    typer.run(main)
