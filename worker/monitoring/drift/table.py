"""Drift as people see it: the row of a table, on a terminal and in the morning report; and a plain row a measure."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

from schema.vocabulary import Stability
from worker.ledger.drift import Cause
from worker.monitoring.drift.evaluate import Drift
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

#: How many of them go onto a terminal.
NARROW = 10

#: Of the plain rows.
PLAIN_COLUMNS = (*Cause._fields, "images", "value", "low", "high", "status")

#: What stands behind a number that is more than chance gives.
MARKS = {Stability.WATCH: " ?", Stability.LEFT_LIMITS: " !"}

NOTE = (
    "Score to border are PSI between the newest images and the reference on the model's card, less what chance gives"
    " for so many images. Above 0.10 (?) it is to be watched, above 0.25 (!) it has left its limits; where images are"
    " few, these limits are higher. The last night's flag rate is held against the nights before."
)


class Cell(NamedTuple):
    """What one field says; its status where it was judged."""

    text: str
    status: Stability | None = None


def cells(drift: Drift) -> list[Cell]:
    """The row of one source, in the order of COLUMNS."""
    source, night = drift.source, drift.night
    rate = "" if math.isnan(night.rate) else f"{night.rate:.0%}"
    limits = "" if math.isnan(night.low) else f"{night.low:.0%}-{night.high:.0%}"
    return [
        Cell(f"{source.manufacturer}, {source.station}"),
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
    for judged in (judgement for drift in drifts for judgement in drift.judgements):
        yield [*judged.cause, judged.images, judged.value, judged.low, judged.high, judged.status]


def section(drifts: Sequence[Drift], unjudged: str = "") -> str:
    """As a part of an HTML page: a row for each source that could be judged; the others are counted.

    `unjudged`: why there are none.
    """
    judged = [drift for drift in drifts if drift.status.rank > Stability.TOO_FEW.rank]
    head = "".join(f"<th>{escape(name)}</th>" for name in COLUMNS)
    rows = "\n".join("<tr>" + "".join(map(_data, cells(drift))) + "</tr>" for drift in judged)
    table = f'<div class="wide"><table><tr>{head}</tr>\n{rows}\n</table></div>\n<p class="note">{escape(NOTE)}</p>'
    others = Counter(str(drift.status).replace("_", " ") for drift in drifts if drift not in judged)
    counted = "; ".join(f"{n} with {why}" for why, n in sorted(others.items()))
    left_out = f'\n<p class="note">Scanners and views not judged: {counted}.</p>' if others else ""
    none = f"<p>None could be judged{f': {escape(unjudged)}' if unjudged else '.'}</p>"
    return f"<h2>Drift, by scanner and view</h2>\n{table if judged else none}{left_out}"


def _psi(shift: Shift | None) -> Cell:
    if shift is None or shift.status is Stability.TOO_FEW:
        return Cell("")
    return Cell(f"{shift.excess:.2f}{MARKS.get(shift.status, '')}", shift.status)


def _data(cell: Cell) -> str:
    kind = f' class="{cell.status}"' if cell.status in MARKS else ""
    return f"<td{kind}>{escape(cell.text)}</td>"
