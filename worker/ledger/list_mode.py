"""Whether the worklist is in a silent run, as the list itself tells. Imports little, because readers use it."""

from sqlalchemy import text

from schema.database import Database
from schema.vocabulary import SILENT_KEY, Band
from worker.ledger.transactions import reading

#: The first sort key after those of a silent run.
AFTER_SILENT = f"{int(SILENT_KEY) + 1:08d}"

#: The bands in which a silent run's studies lie; each is asked for by itself, so that the worklist's index is used.
BANDS = (Band.STAT, Band.OVERDUE, Band.NOT_FLAGGED)

_PLACED = "EXISTS (SELECT 1 FROM study WHERE read_at IS NULL AND band = {} AND sort_key >= :low AND sort_key < :high)"

#: Unread studies that only a silent run, or only a list in use, places as they are.
SILENT = " OR ".join(_PLACED.format(int(band)) for band in BANDS)
IN_USE = _PLACED.format(int(Band.FLAGGED)) + " OR " + _PLACED.format(int(Band.NOT_FLAGGED))


def is_silent_run(database: Database, otherwise: bool) -> bool:
    """Whether unread studies are placed as in a silent run; `otherwise` where no study tells.

    A person's console may have other settings than the service: it must not place a study as the service does not.
    """
    with reading(database) as connection:

        def holds(condition: str, low: str, high: str) -> bool:
            found = connection.execute(text(f"SELECT 1 WHERE {condition}"), {"low": low, "high": high})
            return found.first() is not None

        if holds(SILENT, SILENT_KEY, AFTER_SILENT):
            return True
        has_verdicts = holds(IN_USE, f"{int(Band.FLAGGED)}", f"{int(Band.ATTENTION)}") or holds(
            IN_USE, AFTER_SILENT, f"{int(Band.INELIGIBLE)}"
        )
        return otherwise and not has_verdicts
