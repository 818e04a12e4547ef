"""The files that could not be read, and why. Never writes."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from schema.database import Database
from worker.ledger.transactions import reading
from worker.worklist.columns import with_iso_moments, with_moments


@dataclass(frozen=True)
class QuarantinedFile:
    """A file that could not be read, and why."""

    path: str
    code: str
    message: str
    seen_at: datetime  #: last
    times: int  #: how often it was dropped
    digest: str | None
    study_uid: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; moments as ISO 8601 in UTC."""
        return with_iso_moments(asdict(self))


def quarantine(database: Database) -> list[QuarantinedFile]:
    """Every quarantined file once, the newest first."""
    statement = """
        SELECT arrival.path, arrival.code, arrival.message, MAX(arrival.seen_at) AS seen_at, COUNT(*) AS times,
            arrival.digest, study.study_uid
        FROM arrival LEFT JOIN study ON study.id = arrival.study_id
        WHERE arrival.state = 'quarantined'
        GROUP BY arrival.path, arrival.code, arrival.message, arrival.digest, study.study_uid
        ORDER BY MAX(arrival.id) DESC
    """
    with reading(database) as connection:
        return [QuarantinedFile(*row) for row in connection.execute(with_moments(statement, "seen_at"))]
