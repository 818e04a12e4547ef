"""The README says what the programs do: every verb, every setting's door, every query."""

import hashlib
import json
import re
from pathlib import Path

import click
import pytest
from sqlalchemy import text

from schema.database import Database
from tests.benchmarks import table
from worker.cli.main import app
from worker.settings import DEFAULT_MODEL

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def verbs(group: click.Group, before: str) -> list[str]:
    """Every verb of a program, with the groups it stands in."""
    found = []
    for name, command in group.commands.items():
        words = f"{before} {name}"
        found += verbs(command, words) if isinstance(command, click.Group) else [words]
    return found


@pytest.mark.parametrize("verb", verbs(app, "worker"))
def test_every_verb_stands_in_the_readme(verb: str) -> None:
    assert f"`{verb}" in README


def test_every_query_of_the_readme_answers(database: Database) -> None:
    queries = re.findall(r"```sql\n(.*?)```", README, flags=re.DOTALL)
    assert len(queries) == 4
    for query in queries:
        with database.reading() as connection:
            assert connection.execute(text(query)).all() == []


def test_the_table_of_speed_is_the_one_of_the_results() -> None:
    _, begins, rest = README.partition(table.BEGIN)
    assert begins
    assert rest.partition(table.END)[0] == table.table(), "run `python -m tests.benchmarks.table` and put it there"


def test_what_the_readme_says_of_strange_adults_was_measured_on_the_model_that_ships() -> None:
    found = json.loads((table.RESULTS / "trainer_mobilenetv2_house_familiarity_adults.json").read_text("utf-8"))
    assert found["model_digest"] == hashlib.sha256(DEFAULT_MODEL.read_bytes()).hexdigest()
    pa, ap = (found["kinds"][f"NIH adults, {view}"] for view in ("PA", "AP"))
    told = " and ".join(
        f"{kind['count_outside']} of {kind['outside']['n']} {view}" for kind, view in ((pa, "PA"), (ap, "AP"))
    )
    assert f"NIH adults: {told}" in README
