"""What to say, and to do, where a host and control do not speak the same language. Pure.

A host that control cannot hear in full gets no new servers; why stands among its problems.
"""

from __future__ import annotations

from cloud.version import VERSION
from cloud.wire import WIRE_VERSION, MalformedDocument, Refusal, VersionUnsupported
from vms.spec import PROBLEM_LENGTH, Problem

# A moment of two releases is a part of every upgrade: so often a document is sent and refused
# before it ends what waits for it, which takes about half a minute.
PATIENCE = 3
# Problems of a host whose heartbeat control did not understand.
FOREIGN = frozenset({VersionUnsupported.code, MalformedDocument.code})


def problem(host: str, agent: str, theirs: int, error: MalformedDocument) -> Problem:
    """Of a host whose heartbeat cannot be read."""
    code = VersionUnsupported.code if theirs != WIRE_VERSION else error.code
    return Problem(code, _advice(host, agent, theirs, error.message)[:PROBLEM_LENGTH])


def explanation(host: str, refusal: Refusal) -> str:
    """Why a host did not take a document, and what to do."""
    foreign = refusal.failure.code in FOREIGN
    said = refusal.failure.message
    if not foreign:
        return said
    return _advice(host, refusal.agent_version, refusal.wire_version, said)


def _advice(host: str, agent: str, theirs: int, said: str) -> str:
    if theirs < WIRE_VERSION:
        speaks, remedy = f"wire version {theirs}", f"upgrade the agent of {host}"
    elif theirs > WIRE_VERSION:
        speaks, remedy = f"wire version {theirs}", f"upgrade control, or set {host} back"
    else:
        speaks = f"wire version {theirs} as well, but of another release ({said})"
        remedy = f"run one release on control and {host}"
    return (
        f"{host} (agent {agent}) speaks {speaks}; control ({VERSION}) speaks {WIRE_VERSION}:"
        f" {remedy}. Its servers stay as they are until then"
    )
