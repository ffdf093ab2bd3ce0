"""Every message that there is can be looked at after its death."""

from __future__ import annotations

import ast
from pathlib import Path

from vms.dead_letters import DOCUMENTS

ROOT = Path(__file__).resolve().parents[2]


def task_names(module: str) -> set[str]:
    """The first argument of every decorator of a task."""
    return {
        ast.literal_eval(argument)
        for node in ast.walk(ast.parse((ROOT / module).read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("task", "app.task")
        for argument in (*node.args[:1], *(one.value for one in node.keywords if one.arg == "name"))
    }


def test_the_document_of_every_task_is_known() -> None:
    periodic = {"control.sweep", "control.watch", "control.tidy"}
    tasks = task_names("vms/tasks.py") | task_names("vms/host/tasks.py")
    assert tasks - periodic == set(DOCUMENTS)
