"""The tutorial's commands are ones that the programs take. They were run as they stand; that takes minutes."""

import re
import shlex
from pathlib import Path

import click
import pytest

from trainer.cli.main import app as trainer
from worker.cli.main import app as worker

TUTORIAL = Path("deploy/TUTORIAL.md")
PROGRAMS = {"worker": worker, "trainer": trainer}


def lines() -> list[str]:
    """The shell lines of the tutorial, continued ones joined."""
    blocks = re.findall(r"```sh\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    return "".join(blocks).replace("\\\n", " ").splitlines()


def commands() -> list[list[str]]:
    """Every call of our programs, in words."""
    called = [shlex.split(line.split("||")[0]) for line in lines() if line.strip().startswith(tuple(PROGRAMS))]
    return [words for words in called if words[0] in PROGRAMS]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_is_one_that_the_program_takes(words: list[str]) -> None:
    command: click.Command = PROGRAMS[words[0]]
    rest = words[1:]
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    context = click.Context(command)
    command.make_parser(context).parse_args(rest)


def test_it_goes_from_a_folder_to_a_verdict_to_a_refreshed_model() -> None:
    verbs = [words[2] if words[1] == "model" else words[1] for words in commands()]
    path = iter(verbs)
    assert all(
        verb in path for verb in ("worklist", "review", "export-labels", "fit", "compare", "promote", "rollback")
    )


def test_every_file_it_names_is_there() -> None:
    named = set(re.findall(r"\b\w+\.(?:dcm|png|jpeg)\b", "\n".join(lines())))
    assert len(named) == 14
    assert {name for name in named if not Path("tests/data/inbox", name).is_file()} == set()
