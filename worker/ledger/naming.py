"""Which study a person means: a Study Instance UID or the end of one, an accession number, or a file's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from worker.errors import UnknownStudy
from worker.ledger.spelling import PLAIN, Spelling

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

#: Tried in this order; the first that finds anything decides. What the worklist prints is among them, and so is what
#: stands on a request form, also where the database keeps a pseudonym of it: of the element named here.
WAYS = (
    (None, "SELECT study_uid FROM study WHERE study_uid = :name"),
    ("accession_number", "SELECT study_uid FROM study WHERE accession_number = :name"),
    (
        "path",
        "SELECT DISTINCT study.study_uid FROM arrival JOIN study ON study.id = arrival.study_id"
        " WHERE arrival.path = :name OR SUBSTR(arrival.path, LENGTH(arrival.path) - :length) = :slashed",
    ),
    (
        None,
        "SELECT study_uid FROM study WHERE SUBSTR(study_uid, LENGTH(study_uid) - :length + 1) = :name AND :length >= 4",
    ),
)


def resolve(session: Session | Connection, name: str, spelling: Spelling = PLAIN) -> str:
    """The Study Instance UID of the one study that `name` means; raises UnknownStudy for none and for several."""
    wanted = name.strip().lstrip("…")
    for element, way in WAYS:
        for spelled in dict.fromkeys((wanted, spelling.name(element, wanted))):
            values = {"name": spelled, "slashed": f"/{spelled}", "length": len(spelled)}
            found = session.execute(text(f"{way} LIMIT 2"), {k: v for k, v in values.items() if f":{k}" in way}).all()
            if len(found) == 1:
                return str(found[0].study_uid)
            if found:
                raise UnknownStudy("several studies bear this: give the whole Study Instance UID").about(name)
    raise UnknownStudy("no such study; `worker worklist --json` lists the unread ones").about(name)
