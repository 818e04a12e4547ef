"""Whether the worklist is in a silent run, by the places of its studies. Imports little, because readers use it."""

from sqlalchemy import text

from schema.database import Database
from schema.vocabulary import SILENT_KEY, Band
from worker.ledger.transactions import reading_once

#: The first sort key after those of a silent run.
AFTER_SILENT = f"{int(SILENT_KEY) + 1:08d}"

#: The bands in which a silent run's studies lie; each is asked for by itself, so that the worklist's index is used.
BANDS = (Band.STAT, Band.OVERDUE, Band.NOT_FLAGGED)


def _placed(band: Band, low: str, high: str) -> str:
    where = f"read_at IS NULL AND band = {int(band)} AND sort_key >= '{low}' AND sort_key < '{high}'"
    return f"EXISTS (SELECT 1 FROM study WHERE {where})"


#: Unread studies that only a silent run, or only a list in use, places as they are.
SILENT = " OR ".join(_placed(band, SILENT_KEY, AFTER_SILENT) for band in BANDS)
IN_USE = " OR ".join(
    _placed(band, low, high)
    for low, high in ((f"{int(Band.FLAGGED)}", f"{int(Band.ATTENTION)}"), (AFTER_SILENT, f"{int(Band.INELIGIBLE)}"))
    for band in (Band.FLAGGED, Band.NOT_FLAGGED)
)


def is_silent_run(database: Database, otherwise: bool) -> bool:
    """Whether unread studies are placed as in a silent run; `otherwise` where no study shows it.

    A person's console may have other settings than the service: it must not place a study as the service does not.
    """
    with reading_once(database) as connection:
        is_silent, is_in_use = connection.execute(text(f"SELECT {SILENT}, {IN_USE}")).one()
    return bool(is_silent) or (otherwise and not is_in_use)
