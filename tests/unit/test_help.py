"""The help of both programs names every verb, and cuts no sentence."""

import re

import click
import pytest
from click.testing import CliRunner

from trainer.cli.main import app as trainer
from worker.cli.main import app as worker


@pytest.mark.parametrize(
    ("program", "words"),
    [(worker, ()), (worker, ("model",)), (worker, ("db",)), (worker, ("user",)), (trainer, ())],
    ids=["worker", "worker model", "worker db", "worker user", "trainer"],
)
def test_every_verb_has_a_whole_sentence(program: click.Group, words: tuple[str, ...]) -> None:
    group = program.commands[words[0]] if words else program
    assert isinstance(group, click.Group)
    told = CliRunner().invoke(program, [*words, "--help"]).stdout.split("Options:")[1]
    assert "..." not in told
    assert told.rstrip().endswith(".")
    assert sorted(re.findall(r"^  ([a-z][a-z-]*)  ", told, re.MULTILINE)) == sorted(group.commands)
