"""Many files are registered in one transaction, and come out as if they had come one after the other."""

import random
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DatabaseError

from schema.vocabulary import FileState, Priority
from tests.ledger import STUDY, Ledger, digest, image
from worker.ledger.intake import files
from worker.ledger.intake.arrivals import Incoming, Receipt, Registration
from worker.ledger.intake.register import register, register_all

TABLES = ("arrival", "instance", "series", "study")

#: Every column, with the UIDs that keys stand for.
ROWS = {
    "study": "SELECT * FROM study ORDER BY study_uid",
    "series": "SELECT s.study_uid, r.* FROM series r JOIN study s ON s.id = r.study_id"
    " ORDER BY s.study_uid, r.series_uid",
    "instance": "SELECT s.study_uid, r.series_uid, i.* FROM instance i JOIN series r ON r.id = i.series_id"
    " JOIN study s ON s.id = r.study_id ORDER BY i.sop_instance_uid, i.digest, s.study_uid, r.series_uid",
    "arrival": "SELECT s.study_uid, i.sop_instance_uid, i.digest AS of_image, a.* FROM arrival a"
    " LEFT JOIN study s ON s.id = a.study_id LEFT JOIN instance i ON i.id = a.instance_id ORDER BY a.path, a.state",
}

KEYS = {"id", "study_id", "series_id", "instance_id"}


def receipt(number: int, study_uid: str | None = None, **elements: Any) -> Receipt:
    """A file with an image, of a study of its own unless one is named."""
    uid = study_uid or f"{STUDY}.{number}"
    content = elements.pop("content", f"content {number}")
    file = Incoming(f"/inbox/{number}.dcm", 10 + number, 7, elements.pop("priority", Priority.ROUTINE))
    options = {name: elements.pop(name) for name in ("unreadable", "is_settled") if name in elements}
    header = image(uid, elements.pop("sop_instance_uid", f"{uid}.1.{number}"), **elements)
    return Receipt(file, header, digest(content), crc=number, **options)


def rows(desk: Ledger) -> dict[str, list[dict[str, Any]]]:
    with desk.database.reading() as connection:
        found = {name: connection.execute(text(statement)).mappings().all() for name, statement in ROWS.items()}
    return {name: [{k: v for k, v in row.items() if k not in KEYS} for row in table] for name, table in found.items()}


def empty(desk: Ledger) -> None:
    with desk.database.writing() as session:
        for table in TABLES:
            session.execute(text(f"DELETE FROM {table}"))


def test_sixteen_files_of_new_studies_cost_one_transaction(desk: Ledger) -> None:
    committed: list[str] = []
    event.listen(desk.database.engine, "commit", lambda _connection: committed.append("commit"))
    given = [receipt(number) for number in range(14)]
    given += [receipt(14, f"{STUDY}.0"), receipt(15, f"{STUDY}.0", series_uid="1.2.3")]
    found = register_all(desk.database, given, desk.settings, desk.clock())
    assert found == [Registration(FileState.ACCEPTED, each.header.study_uid, "", is_in_store=True) for each in given]
    assert len(committed) == 1
    assert [desk.count(table) for table in TABLES] == [16, 16, 15, 14]


def drawn(seed: int) -> list[Receipt]:
    """Twenty files that share studies, images, contents, patients and priorities as chance will have it."""
    chance = random.Random(seed)
    return [
        receipt(
            number,
            f"{STUDY}.{chance.randrange(8)}",
            sop_instance_uid=f"{STUDY}.9.{chance.randrange(24)}",
            content=f"content {chance.randrange(30)}",
            patient_id=chance.choice(["P-1", "P-1", "P-1", "P-1", None, "P-2"]),
            series_uid=f"{STUDY}.8.{chance.randrange(3)}",
            priority=chance.choice([Priority.ROUTINE] * 6 + [Priority.STAT, Priority.NIGHTLY]),
            unreadable=chance.choice([None] * 9 + ["truncated_file"]),
            is_settled=chance.choice([True, True, False]),
        )
        for number in range(20)
    ]


@pytest.mark.parametrize("seed", range(6))
def test_files_registered_together_give_the_rows_of_files_registered_one_by_one(desk: Ledger, seed: int) -> None:
    given = drawn(seed)
    waiting = [each.file for each in given[::2]]
    files.wait(desk.database, waiting, desk.clock())
    singly = [register(desk.database, each, desk.settings, desk.clock()) for each in given]
    expected = rows(desk)
    empty(desk)
    files.wait(desk.database, waiting, desk.clock())
    together: list[Registration | Exception] = []
    for start in range(0, len(given), 7):
        together += register_all(desk.database, given[start : start + 7], desk.settings, desk.clock())
    assert together == singly
    assert rows(desk) == expected


def test_one_refused_file_among_sixteen_costs_the_others_nothing(desk: Ledger) -> None:
    with desk.database.writing() as session:
        if desk.database.engine.dialect.name == "sqlite":
            body = "BEFORE INSERT ON instance WHEN NEW.crc = 5 BEGIN SELECT RAISE(ABORT, 'refused'); END"
            session.execute(text(f"CREATE TRIGGER refuse {body}"))
        else:
            session.execute(text("ALTER TABLE instance ADD CONSTRAINT refuse CHECK (crc <> 5)"))
    found = register_all(desk.database, [receipt(n) for n in range(16)], desk.settings, desk.clock())
    assert isinstance(found[5], DatabaseError)
    assert all(isinstance(each, Registration) for each in found[:5] + found[6:])
    assert [desk.count(table) for table in TABLES] == [15, 15, 15, 15]
