"""Which holds are in force, as a condition in SQL: who reads a study now. Never writes."""

from datetime import datetime

from sqlalchemy import bindparam

from schema.types import UtcDateTime
from worker.ledger.reading_room.holds import latest_end

#: A condition on rows of `hold`.
IN_FORCE = "until > :now AND until <= :latest_end"

#: Its parameters.
MOMENTS = (bindparam("now", type_=UtcDateTime()), bindparam("latest_end", type_=UtcDateTime()))


def at(now: datetime) -> dict[str, datetime]:
    """The values of MOMENTS."""
    return {"now": now, "latest_end": latest_end(now)}
