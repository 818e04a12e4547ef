"""Finds the study that a person names: by Study Instance UID or the end of one, accession number, or file name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from schema.suffix_indexes import FILE_NAME, UID_END, UID_END_LENGTH
from schema.types import UtcDateTime
from worker.errors import UnknownStudy
from worker.ledger.identifiers import PLAIN, IdentifierPolicy

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

#: The end of a UID must have at least this many characters.
SHORTEST_END = 4

#: Studies that are listed when a name means several.
MOST_CANDIDATES = 5

_ENDS_SO = "SUBSTR(study_uid, LENGTH(study_uid) - :length + 1) = :name"

#: Queries tried in this order; the first that finds anything decides. They cover what the worklist prints and what a
#: request form shows. If the database stores pseudonyms, the typed name is also tried as the pseudonym of the element
#: named here. All but the last, which reads every study, use an index.
WAYS = (
    (None, "SELECT study_uid FROM study WHERE study_uid = :name"),
    ("accession_number", "SELECT study_uid FROM study WHERE accession_number = :name"),
    (
        "path",
        "SELECT DISTINCT study.study_uid FROM arrival JOIN study ON study.id = arrival.study_id"
        f" WHERE {FILE_NAME} = :file AND (path = :name OR SUBSTR(path, LENGTH(path) - :length) = :slashed)",
    ),
    (None, f"SELECT study_uid FROM study WHERE {UID_END} = :end AND {_ENDS_SO}"),
    (None, f"SELECT study_uid FROM study WHERE {_ENDS_SO} AND :length BETWEEN {SHORTEST_END} AND {UID_END_LENGTH - 1}"),
)


def resolve(session: Session | Connection, name: str, policy: IdentifierPolicy = PLAIN) -> str:
    """The Study Instance UID of the study that `name` means; raises UnknownStudy for none and for several."""
    found = find_meant(session, name, policy, MOST_CANDIDATES + 1)
    if not found:
        raise UnknownStudy("no such study; `worker worklist --json` lists the unread ones").about(name)
    if len(found) > 1:
        candidates = _candidates(session, found)
        raise UnknownStudy(f"several studies match this: {candidates}; give the whole Study Instance UID").about(name)
    return found[0]


def find_meant(session: Session | Connection, name: str, policy: IdentifierPolicy, limit: int) -> list[str]:
    """UIDs of the studies that `name` may mean, at most `limit`."""
    wanted = name.strip().lstrip("…")
    for element, way in WAYS:
        for stored_name in dict.fromkeys((wanted, policy.name(element, wanted))):
            found = session.execute(text(f"{way} LIMIT {limit}"), parameters_of(way, stored_name)).scalars().all()
            if found:
                return [str(uid) for uid in found]
    return []


def _candidates(session: Session | Connection, uids: list[str]) -> str:
    """The studies that may be meant, each with what tells it from the others."""
    statement = text("SELECT study_uid, study_date, received_at FROM study WHERE study_uid = :uid").columns(
        received_at=UtcDateTime()
    )
    rows = [session.execute(statement, {"uid": uid}).one() for uid in sorted(uids)[:MOST_CANDIDATES]]
    named = [
        f"{row.study_uid} ({f'of {row.study_date}, ' if row.study_date else ''}received"
        f" {row.received_at:%Y-%m-%d %H:%M} UTC)"
        for row in rows
    ]
    return ", ".join([*named, *(["and more"] if len(uids) > MOST_CANDIDATES else [])])


def parameters_of(way: str, name: str) -> dict[str, str | int]:
    """The parameters of one of the queries in WAYS, for a name."""
    values: dict[str, str | int] = {
        "name": name,
        "slashed": f"/{name}",
        "file": name.rsplit("/", 1)[-1],
        "end": name[-UID_END_LENGTH:],
        "length": len(name),
    }
    return {key: value for key, value in values.items() if f":{key}" in way}
