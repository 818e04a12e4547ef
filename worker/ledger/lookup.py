"""Which study a person means: a Study Instance UID or the end of one, an accession number, or a file's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from schema.suffix_indexes import FILE_NAME, UID_END, UID_END_LENGTH
from worker.errors import UnknownStudy
from worker.ledger.identifiers import PLAIN, Spelling

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

#: Fewer characters than these are no end of a UID.
SHORTEST_END = 4

_ENDS_SO = "SUBSTR(study_uid, LENGTH(study_uid) - :length + 1) = :name"

#: Tried in this order; the first that finds anything decides. What the worklist prints is among them, and so is what
#: stands on a request form, also where the database keeps a pseudonym of it: of the element named here. All but the
#: last, which reads every study, walk an index.
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


def resolve(session: Session | Connection, name: str, spelling: Spelling = PLAIN) -> str:
    """The Study Instance UID of the one study that `name` means; raises UnknownStudy for none and for several."""
    wanted = name.strip().lstrip("…")
    for element, way in WAYS:
        for spelled in dict.fromkeys((wanted, spelling.name(element, wanted))):
            found = session.execute(text(f"{way} LIMIT 2"), spoken(way, spelled)).all()
            if len(found) == 1:
                return str(found[0].study_uid)
            if found:
                raise UnknownStudy("several studies bear this: give the whole Study Instance UID").about(name)
    raise UnknownStudy("no such study; `worker worklist --json` lists the unread ones").about(name)


def spoken(way: str, name: str) -> dict[str, str | int]:
    """The parameters of one of WAYS, for a name."""
    values: dict[str, str | int] = {
        "name": name,
        "slashed": f"/{name}",
        "file": name.rsplit("/", 1)[-1],
        "end": name[-UID_END_LENGTH:],
        "length": len(name),
    }
    return {key: value for key, value in values.items() if f":{key}" in way}
