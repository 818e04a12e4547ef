"""A large ledger stays quick: what people ask walks an index, never the archive."""

from pathlib import Path

import pytest
from sqlalchemy import text

from schema.database import Database
from schema.vocabulary import ReviewOutcome
from tests.benchmarks.archive import fill
from tests.desk import Clock
from worker import worklist
from worker.ledger import people
from worker.ledger.naming import WAYS
from worker.store.folder import FolderStore

STUDIES, UNREAD = 400, 60


@pytest.fixture
def archive(tmp_path: Path, migrated_sqlite: Path) -> Database:
    """A migrated SQLite with many read studies and few unread ones."""
    file = tmp_path / "archive.sqlite"
    file.write_bytes(migrated_sqlite.read_bytes())
    database = Database(f"sqlite:///{file}")
    fill(database, STUDIES, UNREAD)
    return database


def plan(database: Database, statement: str, **values: str | int) -> str:
    with database.reading() as connection:
        return "\n".join(row[-1] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"), values))


def test_the_next_fifty_are_read_along_the_index_and_never_sorted(archive: Database) -> None:
    steps = plan(archive, "SELECT * FROM worklist LIMIT 50")
    assert "USING INDEX ix_study_unread" in steps
    assert "TEMP B-TREE" not in steps


@pytest.mark.parametrize("way", WAYS[:2])
def test_a_review_finds_its_study_by_an_index(archive: Database, way: str) -> None:
    steps = plan(archive, way, name="A1")
    assert "USING INDEX" in steps or "USING COVERING INDEX" in steps
    assert "SCAN" not in steps


def test_reviewed_studies_leave_the_list_and_the_next_ones_follow_in_order(
    archive: Database, tmp_path: Path, clock: Clock
) -> None:
    store = FolderStore(tmp_path)
    before = worklist.entries(archive, store, 50)
    assert [entry.band for entry in before] == [3] * (UNREAD // 10) + [6] * (50 - UNREAD // 10)
    people.review(archive, before[0].study_uid, next(iter(ReviewOutcome)), "R", None, clock())
    after = worklist.entries(archive, store, 50)
    assert [e.study_uid for e in after[:49]] == [e.study_uid for e in before[1:]]
    assert worklist.count(archive) == UNREAD - 1
