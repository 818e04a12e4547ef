"""Check that every file and every study is in exactly one state, and that the rows agree with the store."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from schema.database import Database
from schema.vocabulary import FileState, StudyState
from worker.ledger.transactions import reading
from worker.store import OBJECTS, Store

#: Faults that must not occur -> SQL that counts them.
FAULTS = {
    "files booked on a study that is not there": """
        SELECT COUNT(*) FROM arrival WHERE state IN ('accepted', 'conflict', 'duplicate')
        AND (study_id IS NULL OR instance_id IS NULL)
    """,
    "studies without an image": """
        SELECT COUNT(*) FROM study WHERE NOT EXISTS (
            SELECT 1 FROM series JOIN instance ON instance.series_id = series.id WHERE series.study_id = study.id)
    """,
    "images that no file brought": """
        SELECT COUNT(*) FROM instance WHERE NOT EXISTS (SELECT 1 FROM arrival WHERE arrival.instance_id = instance.id)
    """,
    "screened studies without a result for their newest images": """
        SELECT COUNT(*) FROM study WHERE state = 'screened' AND NOT EXISTS (
            SELECT 1 FROM screening WHERE screening.id = study.current_screening_id
            AND screening.revision = study.revision)
    """,
    "results that came twice": """
        SELECT COUNT(*) FROM (
            SELECT 1 FROM screening GROUP BY study_id, revision, model_digest HAVING COUNT(*) > 1) AS doubled
    """,
}


@dataclass(frozen=True)
class Account:
    """The sums, and the number of each fault."""

    files: dict[str, int]
    files_seen: int
    studies: dict[str, int]
    studies_known: int
    faults: dict[str, int]

    @property
    def holds(self) -> bool:
        """Whether every file and every study is in exactly one state, and nothing is missing."""
        return (
            set(self.files) <= set(FileState)
            and set(self.studies) <= set(StudyState)
            and sum(self.files.values()) == self.files_seen
            and sum(self.studies.values()) == self.studies_known
            and not any(self.faults.values())
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "holds": self.holds}


def reconcile(database: Database, store: Store) -> Account:
    """Sum files and studies, and count the faults. Raises DatabaseUnavailable, StorageUnavailable."""
    with reading(database) as connection:
        sums: dict[str, dict[str, int]] = {"file": {}, "study": {}}
        for kind, state, n in connection.execute(text("SELECT kind, state, n FROM reconciliation")):
            sums[kind][state] = n
        seen = connection.execute(text("SELECT COUNT(*) FROM arrival")).scalar_one()
        known = connection.execute(text("SELECT COUNT(*) FROM study")).scalar_one()
        faults = {name: int(connection.execute(text(sql)).scalar_one()) for name, sql in FAULTS.items()}
        kept = connection.execute(text("SELECT DISTINCT digest FROM arrival WHERE in_store AND digest IS NOT NULL"))
        missing = {digest for (digest,) in kept}
    for stored in store.files(OBJECTS):  # one listing: a request for each object would take hours in an object store
        missing.discard(stored.digest)
    faults["files booked whose bytes are not in the store"] = len(missing)
    return Account(sums["file"], seen, sums["study"], known, faults)
