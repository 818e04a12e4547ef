"""The audit: which actions it records, that no row can be changed, and how old rows are removed as documented."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from schema.vocabulary import AuditAction, ModelAction, Priority, ReviewOutcome
from tests.ledger import STUDY, Ledger
from worker.cli.main import app
from worker.errors import UnknownStudy
from worker.ledger import audit, decisions
from worker.ledger.operations import comparisons, promotions
from worker.ledger.operations.comparisons import Presented

SECURITY = (Path(__file__).parents[2] / "deploy" / "SECURITY.md").read_text(encoding="utf-8")
APPEND_ONLY = ("audit", "review", "prioritisation", "promotion", "presented_comparison", "withdrawal")


def ask(desk: Ledger, *words: str, **settings: str) -> str:
    """Run a verb on the ledger; what it prints."""
    environment = {"HOME": desk.settings.home, "DATABASE": desk.database.url} | settings
    done = CliRunner().invoke(
        app, words, env={f"SCREENING_{name}": str(value) for name, value in environment.items()}, catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.stdout


def told(desk: Ledger, *words: str) -> list[tuple[Any, ...]]:
    """Who did what, with which study and what else, as `worker audit` tells it."""
    rows = json.loads(ask(desk, "audit", *words, "--json"))
    return [(row["who"], row["deed"], row["study_uid"], row["subject"]) for row in rows]


def filled(desk: Ledger) -> None:
    """A row in each table of the trail, one minute apart."""
    desk.receive(accession_number="A-1")
    desk.screen(STUDY, 0.9)
    promotions.decide(desk.database, ModelAction.INSTALLED, desk.model, "Ann", desk.clock(), lambda _: None)
    presented = Presented(
        "c" * 64, "b" * 64, "next", desk.model.digest, False, "too few", "Abe", desk.clock.forward(60)
    )
    comparisons.keep(desk.database, presented)
    decisions.prioritise(desk.database, STUDY, Priority.STAT, "Ben", desk.clock.forward(60))
    decisions.requeue(desk.database, STUDY, desk.settings, desk.clock.forward(60), "Cleo")
    decisions.review(desk.database, STUDY, ReviewOutcome.PNEUMONIA, "Dr Dee", None, desk.clock.forward(60))
    decisions.withdraw(desk.database, STUDY, "Dr Dee", "wrong study", desk.clock.forward(60))


def test_people_read_the_beginning_of_a_digest(desk: Ledger) -> None:
    """As in `worker model list`; whole it takes four lines of the table."""
    filled(desk)
    shown = "".join(ask(desk, "audit").split())
    assert desk.model.digest[:12] in shown
    assert desk.model.digest[:13] not in shown


def test_who_did_what_is_told_from_whichever_table_keeps_it(desk: Ledger) -> None:
    filled(desk)
    of_study = [
        ("Ben", "prioritised", STUDY, "stat"),
        ("Cleo", "requeued", STUDY, None),
        ("Dr Dee", "reviewed", STUDY, "pneumonia"),
        ("Dr Dee", "review_withdrawn", STUDY, "pneumonia"),
    ]
    of_models = [
        ("Ann", "model_installed", None, desk.model.digest),
        ("Abe", "comparison_presented", None, "b" * 64),
    ]
    assert told(desk) == [*of_models, *of_study]
    assert told(desk, "--study", "A-1") == of_study
    assert told(desk, "--since", "2026-03-03") == []


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_look_is_noted_before_it_is_had_as_far_as_the_setting_asks(desk: Ledger) -> None:
    desk.receive()
    ask(desk, "show", STUDY, "--by", "Eve")
    ask(desk, "show", STUDY)
    ask(desk, "worklist", "--by", "Eve")
    ask(desk, "show", STUDY, AUDIT_READS="none")
    looks = [("Eve", "shown", STUDY, None), (audit.account(), "shown", STUDY, None)]
    assert told(desk) == looks
    ask(desk, "worklist", "--by", "Eve", AUDIT_READS="lists")
    ask(desk, "quarantine", AUDIT_READS="lists")
    assert told(desk)[2:] == [("Eve", "listed", None, None), (audit.account(), "listed", None, None)]
    with pytest.raises(UnknownStudy):
        ask(desk, "show", "nobody")
    assert len(told(desk)) == 4


@pytest.mark.parametrize("kind", ["sqlite"])
def test_prunings_and_exports_are_noted(desk: Ledger, tmp_path: Path) -> None:
    filled(desk)
    ask(desk, "prune", "--older-than", "400", "--by", "Fay")
    decisions.review(desk.database, STUDY, ReviewOutcome.PNEUMONIA, "Dr Dee", None, desk.clock.forward(60))
    out = str(tmp_path / "out")
    ask(desk, "export-labels", out, "--by", "Gus")
    own = [row for row in told(desk) if row[0] in ("Fay", "Gus")]
    assert own == [("Fay", "pruned", None, None), ("Gus", "labels_exported", STUDY, out)]
    assert "read 400 days ago" in ask(desk, "audit")


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_no_row_can_be_changed_or_removed(desk: Ledger, table: str) -> None:
    filled(desk)
    deeds = [f"UPDATE {table} SET id = id + 1", f"DELETE FROM {table}"]
    if desk.database.engine.dialect.name == "postgresql":
        deeds.append(f"TRUNCATE {table}")
    else:
        deeds.append(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")
    before = desk.count(table)
    for deed in deeds:
        with pytest.raises(sa.exc.IntegrityError, match=f"{table} is append-only"), desk.database.writing() as session:
            session.execute(sa.text(deed))
    assert desk.count(table) == before > 0


def test_old_rows_go_the_way_that_the_security_page_tells(desk: Ledger) -> None:
    filled(desk)
    audit.note(desk.database, AuditAction.SHOWN, "Old", datetime(2015, 1, 1, tzinfo=UTC), [STUDY])
    name = desk.database.engine.dialect.name
    (script,) = re.findall(rf"```sql\n-- (?i:{name})\nBEGIN;\n(.*?)COMMIT;\n```", SECURITY, flags=re.DOTALL)
    with desk.database.writing() as session:
        for statement in filter(str.strip, script.split(";\n")):
            session.execute(sa.text(statement))
    assert (desk.count("audit"), desk.count("review")) == (1, 1)
    with pytest.raises(sa.exc.IntegrityError, match="audit is append-only"), desk.database.writing() as session:
        session.execute(sa.text("DELETE FROM audit"))
