"""What supervisord is told of a program."""

from __future__ import annotations

from configparser import RawConfigParser
from pathlib import Path

from deploy.supervise import Program

LOG = Path("/log")


def section(program: Program) -> dict[str, str]:
    """The program's section as supervisord's parser reads it, before it expands `%`."""
    parser = RawConfigParser()
    parser.read_string(program.section(LOG))
    return dict(parser[f"program:{program.name}"])


def test_a_service_runs_as_its_user_and_dies_with_its_supervisor() -> None:
    program = Program("web", ["uvicorn", "app"], Path("/srv"), user="cumulet")
    assert section(program)["command"] == (
        "setpriv --pdeathsig TERM --reuid cumulet --regid cumulet --clear-groups uvicorn app"
    )


def test_a_host_program_starts_inside_its_namespace() -> None:
    program = Program("agent", ["python"], Path("/srv"), netns=Path("/run/netns/h1"))
    assert section(program)["command"].startswith("nsenter --net=/run/netns/h1 ")


def test_a_program_without_privileges_gets_none_back() -> None:
    program = Program(
        "agent", ["python"], Path("/srv"), user="nobody", netns=Path("/run/netns/r1"), bare=True
    )
    assert section(program)["command"] == (
        "nsenter --net=/run/netns/r1 setpriv --pdeathsig TERM"
        " --reuid nobody --regid nobody --init-groups"
        " --inh-caps -all --no-new-privs --bounding-set -all python"
    )


def test_percent_signs_and_quotes_reach_the_program_unharmed() -> None:
    program = Program("web", ["run", "control@%h"], Path("/srv"), env={"PASSWORD": 'a%b"c\\d'})
    assert "control@%%h" in section(program)["command"]
    assert 'PASSWORD="a%%b\\"c\\\\d"' in section(program)["environment"]


def test_no_password_of_the_environment_is_on_the_command_line() -> None:
    program = Program("web", ["run"], Path("/srv"), env={"PASSWORD": "secret"})
    assert "secret" not in section(program)["command"]


def test_another_configuration_file_is_a_change() -> None:
    before = Program("web", ["run"], Path("/srv"), configuration="port = 1")
    after = Program("web", ["run"], Path("/srv"), configuration="port = 2")
    assert before.section(LOG) != after.section(LOG)


def test_nothing_changes_when_nothing_changed() -> None:
    env = {"A": "1", "B": "2"}
    other_order = dict(reversed(env.items()))
    first = Program("web", ["run"], Path("/srv"), env=env)
    assert first.section(LOG) == Program("web", ["run"], Path("/srv"), env=other_order).section(LOG)
