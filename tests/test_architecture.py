"""The rules that keep the code clean, as far as a program can see them."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command

from cloud import shell

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("cloud", "vms", "networks", "deploy", "tests")


def modules(*packages: str) -> Iterator[Path]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path


def imports(path: Path) -> set[str]:
    """Top-level names of all packages that the module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def relative(paths: Iterator[Path]) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in paths}


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["ruff", "check", "."], id="ruff"),
        pytest.param(["ruff", "format", "--check", "."], id="format"),
        pytest.param(["mypy"], id="mypy"),
        pytest.param(["lint-imports"], id="import contracts"),
    ],
)
def test_the_checker_finds_nothing(argv: list[str]) -> None:
    program, *arguments = argv
    environment = {"CUMULET_SECRET_KEY": "check", "CUMULET_DATABASE_URL": "postgres:///check"}
    result = shell.run(
        [Path(sys.executable).with_name(program), *arguments],
        timeout=600,
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        ok=range(256),
    )
    assert result.code == 0, result.stdout + result.stderr


def test_migrations_are_up_to_date(db: None) -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_migrations_have_names_that_say_what_they_do() -> None:
    automatic = [path.name for path in ROOT.glob("*/migrations/0*.py") if "_auto_" in path.name]
    assert not automatic


def test_only_the_shell_module_starts_processes() -> None:
    starters = {"subprocess", "multiprocessing", "pty"}
    found = relative(
        p for p in modules("cloud", "vms", "networks", "deploy") if imports(p) & starters
    )
    assert found == {"cloud/shell.py"}


def test_only_the_two_apps_and_their_tasks_surroundings_know_celery() -> None:
    found = relative(p for p in modules("cloud", "vms", "networks") if "celery" in imports(p))
    assert found == {
        "cloud/agent.py",
        "cloud/beat.py",
        "cloud/celery.py",
        "cloud/inspection.py",
        "cloud/intake.py",
        "cloud/reconnection.py",
        "cloud/taskcontext.py",
        "cloud/worker.py",
        "cloud/workerdb.py",
    }


def test_no_module_is_longer_than_400_lines() -> None:
    long = [str(path) for path in modules(*PACKAGES) if len(path.read_text().splitlines()) > 400]
    assert not long


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in modules("cloud", "vms", "networks", "deploy")
        if path.stat().st_size
        and not ast.get_docstring(ast.parse(path.read_text()))
        and path.name != "apps.py"
    ]
    assert not silent


def test_a_host_loads_neither_django_nor_the_database_driver() -> None:

    # kombu itself looks into django.utils where Django happens to be installed.
    code = (
        "import sys, vms.host.tasks, vms.host.monitor;"
        "print([m for m in ('django.conf', 'django.db', 'psycopg2') if m in sys.modules])"
    )
    result = shell.run(
        [sys.executable, "-c", code],
        timeout=60,
        cwd=ROOT,
        # With this variable set, Celery would load Django if the host's app let it.
        env={"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "cloud.settings"},
    )
    assert result.stdout.strip() == "[]", result.stdout


@pytest.mark.parametrize("script", ["up", "down", "test", "manage", "bench"])
def test_the_commands_of_the_readme_can_be_executed(script: str) -> None:
    assert os.access(ROOT / "deploy" / script, os.X_OK)
