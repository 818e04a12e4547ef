"""A large ledger stays quick on both databases: whatever is asked often walks an index, never the archive.

The plans are those of the statements that the program itself sends. They are what a million rows give
(`python -m tests.benchmarks.archive`): with these few thousands, counted, a planner chooses alike.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, event

from schema.database import Database
from schema.vocabulary import ReviewOutcome
from tests.benchmarks.archive_rows import fill
from tests.conftest import POSTGRESQL, SQLITE, fresh_database
from tests.ledger import Clock, Ledger, image
from worker.errors import UnknownStudy
from worker.ledger import decisions
from worker.ledger.intake import files, register
from worker.ledger.intake.arrivals import Incoming
from worker.ledger.lookup import resolve
from worker.ledger.screening import claims
from worker.ledger.transactions import reading
from worker.ledger.worklist import overdue
from worker.settings import Settings
from worker.store.folder import FolderStore
from worker.worklist import underway, unread_list

STUDIES, UNREAD = 5000, 300

#: How a plan says that it reads a whole table, and that it sorts what an index could have given in order.
#: Models and withdrawals are few.
SCAN = {
    SQLITE: re.compile(r"SCAN (?!CONSTANT ROW|study USING INDEX ix_study_unread)|ix_study_unread \(band"),
    POSTGRESQL: re.compile(r"Seq Scan on (?!model_version|withdrawal)"),
}
SORT = {SQLITE: "TEMP B-TREE", POSTGRESQL: "Sort"}

#: SQLite has names of its own for indexes that belong to a table's constraints.
SQLITES_NAMES = {"uq_study_study_uid": "sqlite_autoindex_study_1"}


@pytest.fixture(scope="module", params=[SQLITE, POSTGRESQL])
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Many read studies and few unread ones, all screened."""
    for url in fresh_database(str(request.param), tmp_path_factory.mktemp("archive"), request):
        database = Database(url)
        fill(database, STUDIES, UNREAD)
        yield database
        database.close()


@pytest.fixture
def desk(archive: Database, settings: Settings, store: FolderStore) -> Ledger:
    """The counter of that ledger, on the day it was filled."""
    return Ledger(archive, settings, store, Clock(Clock().now.replace(month=1, day=1)))


def plans(database: Database, work: Callable[[], object]) -> list[str]:
    """The plan of every statement by which `work` finds rows."""
    said: list[tuple[str, Any]] = []

    def note(_c: Connection, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith(("SELECT", "UPDATE")):
            said.append((statement, parameters[0] if isinstance(parameters, list) else parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN" if database.engine.dialect.name == SQLITE else "EXPLAIN"
    with database.reading() as connection:
        rows = [
            connection.exec_driver_sql(f"{explain} {statement}", parameters).all() for statement, parameters in said
        ]
    return ["\n".join(row[-1] for row in plan) for plan in rows]


def review(desk: Ledger, name: str) -> None:
    decisions.review(desk.database, name, next(iter(ReviewOutcome)), "R", None, desk.clock())


def take_in(desk: Ledger) -> None:
    """Another image of a study that is there, and the first of one that is not."""
    desk.receive("2.25.7100000007", "2.25.9.1", "another")
    desk.receive("2.25.6", "2.25.9.2", "new")


def screen(desk: Ledger) -> None:
    desk.receive("2.25.5", "2.25.9.3", "to be screened")
    desk.screen("2.25.5")


#: What is done often, and the indexes that its statements must walk, in their order.
WORK: dict[str, tuple[Callable[[Ledger], object], tuple[str, ...]]] = {
    "the next fifty": (
        lambda desk: unread_list.entries(desk.database, desk.store, 50), ("ix_study_unread", "ix_arrival_study_id")
    ),
    "has anything become late": (
        lambda desk: unread_list.is_stale(desk.database, desk.clock()), ("ix_study_unread_overdue", "ix_study_state")
    ),
    "how long the oldest waits": (
        lambda desk: underway.longest_wait_s(desk.database, desk.clock()), ("ix_study_state",)
    ),
    "review by UID": (lambda desk: review(desk, "2.25.7100005000"), ("uq_study_study_uid",)),
    "review by accession number": (lambda desk: review(desk, "A4999"), ("ix_study_accession_number",)),
    "review by file name": (lambda desk: review(desk, "4998.dcm"), ("ix_arrival_name",)),
    "review by the end of a UID": (lambda desk: review(desk, "…100004997"), ("ix_study_uid_end",)),
    "same SOP Instance UID": (
        lambda desk: register.accepted_copies(desk.database, image("2.25.7100000009", "2.25.99"), "d"),
        ("ix_instance_sop_instance_uid",),
    ),
    "taking in": (take_in, ("ix_arrival_path", "uq_study_study_uid", "ix_instance_sop_instance_uid")),
    "file that still grows": (
        lambda desk: files.wait(desk.database, [Incoming("/inbox/w.dcm", 1, 1)], desk.clock()), ("ix_arrival_path",)
    ),
    "offer, claim and record": (screen, ("ix_study_state", "uq_study_study_uid", "ix_instance_series_id")),
    "the sweep": (
        lambda desk: (
            claims.take_back_lapsed(desk.database, desk.settings, desk.clock()),
            overdue.advance(desk.database, desk.clock()),
        ),
        ("ix_study_state", "ix_study_unread_overdue"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WORK)
def test_what_is_done_often_walks_indexes_and_reads_no_whole_table(desk: Ledger, what: str) -> None:
    work, indexes = WORK[what]
    kind = desk.database.engine.dialect.name
    found = plans(desk.database, lambda: work(desk))
    assert [plan for plan in found if SCAN[kind].search(plan)] == []
    wanted = [SQLITES_NAMES.get(index, index) if kind == SQLITE else index for index in indexes]
    assert [index for index in wanted if index not in "\n".join(found)] == [], "\n\n".join(found)


def test_the_next_fifty_come_in_the_order_of_the_index(desk: Ledger) -> None:
    page, _sources = plans(desk.database, lambda: unread_list.entries(desk.database, desk.store, 50))
    assert SORT[desk.database.engine.dialect.name] not in page


def test_reviewed_studies_leave_the_list_and_the_next_ones_follow_in_order(desk: Ledger) -> None:
    before, unread = unread_list.entries(desk.database, desk.store, 50), unread_list.count(desk.database)
    assert [entry.band for entry in before] == sorted(entry.band for entry in before)
    review(desk, before[0].study_uid)
    after = unread_list.entries(desk.database, desk.store, 50)
    assert [replace(e, place=0) for e in after[:49]] == [replace(e, place=0) for e in before[1:]]
    assert unread_list.count(desk.database) == unread - 1


NAMES = ("/inbox/17.dcm", "17.dcm", "inbox/17.dcm", "2.25.7100000017", "…100000017", "00000017", "A17")


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_found_by_each_of_its_names(archive: Database, name: str) -> None:
    with reading(archive) as connection:
        assert resolve(connection, name) == "2.25.7100000017"


@pytest.mark.parametrize("name", ["x17.dcm", "box/17.dcm", "inbox", "dcm", "017", "00000x17", "/17.dcm", "", "a" * 70])
def test_part_of_a_name_is_none(archive: Database, name: str) -> None:
    with reading(archive) as connection, pytest.raises(UnknownStudy):
        resolve(connection, name)


def test_a_short_end_of_a_uid_is_still_found(archive: Database) -> None:
    with reading(archive) as connection:
        assert resolve(connection, "4017") == "2.25.7100004017"
