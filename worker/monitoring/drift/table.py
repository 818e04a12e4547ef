"""Drift for people: the rows of a table, on a terminal and in the batch report; and a plain row for each measure."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from schema.vocabulary import Stability
from worker.ledger.operations.drift import Cause
from worker.monitoring.drift.evaluate import Drift, Source
from worker.monitoring.drift.statistics import Shift

#: Headings of the measures.
SHORT = {
    "probability": "score",
    "familiarity": "familiarity",
    "display_mean": "brightness",
    "display_deviation": "contrast",
    "dark_border": "border",
}

COLUMNS = ("scanner", "view", "status", "images", "flagged", *SHORT.values(), "limits of flagged", "model")

#: Number of columns on a terminal.
NARROW = 10

#: Columns of the plain rows.
PLAIN_COLUMNS = (*Cause._fields, "images", "value", "low", "high", "status")

#: Mark behind a number that is larger than chance explains.
MARKS = {Stability.WATCH: " ?", Stability.LEFT_LIMITS: " !"}

NOTE = (
    "The columns from score to border are PSI between the newest images and the reference on the model's card, minus"
    " the PSI that chance gives for this number of images. Above 0.10 (?) watch it, above 0.25 (!) it has left its"
    " limits; for few images these limits are higher. The flag rate of the last night is compared with the nights"
    " before."
)


class Cell(NamedTuple):
    """The text of one field, and its status if it was judged."""

    text: str
    status: Stability | None = None

    @property
    def is_marked(self) -> bool:
        """Whether the field is highlighted."""
        return self.status in MARKS


class DriftTable(NamedTuple):
    """The table of a page."""

    columns: tuple[str, ...]
    rows: list[list[Cell]]
    note: str
    others: str  #: number of sources that could not be judged, by reason; empty: none


def cells(drift: Drift) -> list[Cell]:
    """The row of one source, in the order of COLUMNS."""
    source, night = drift.source, drift.night
    rate = "" if math.isnan(night.rate) else f"{night.rate:.0%}"
    limits = "" if math.isnan(night.low) else f"{night.low:.0%}-{night.high:.0%}"
    return [
        Cell(_scanner(source)),
        Cell(source.view),
        Cell(str(drift.status).replace("_", " "), drift.status),
        Cell(str(drift.images)),
        Cell(rate + MARKS.get(night.status, ""), night.status),
        *(_psi(drift.shifts.get(name)) for name in SHORT),
        Cell(limits),
        Cell(f"{drift.model} {source.model_digest[:8]}"),
    ]


def plain_rows(drifts: Sequence[Drift]) -> Iterator[list[Any]]:
    """A row for each measure that could be judged, in the order of PLAIN_COLUMNS."""
    for drift in drifts:
        for judged in drift.judgements:
            yield [*judged.cause, judged.images, judged.value, judged.low, judged.high, judged.status]


def drift_table(drifts: Sequence[Drift]) -> DriftTable:
    """A row for each source that could be judged; the others are counted."""
    judged = [drift for drift in drifts if drift.status.rank > Stability.TOO_FEW.rank]
    others = Counter(str(drift.status).replace("_", " ") for drift in drifts if drift not in judged)
    counted = "; ".join(f"{n} with {why}" for why, n in sorted(others.items()))
    return DriftTable(COLUMNS, [cells(drift) for drift in judged], NOTE, counted)


def _scanner(source: Source) -> str:
    """Manufacturer and station, as far as the header names them. A PNG or JPEG names none."""
    return ", ".join(name for name in (source.manufacturer, source.station) if name != "none") or "not named"


def _psi(shift: Shift | None) -> Cell:
    if shift is None or shift.status is Stability.TOO_FEW:
        return Cell("")
    return Cell(f"{shift.excess:.2f}{MARKS.get(shift.status, '')}", shift.status)
