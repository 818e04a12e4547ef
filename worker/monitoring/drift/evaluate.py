"""Drift: the images of scanners and their predictions, compared with the reference on the model's card.

By scanner, view and model, on the newest images. It is evaluated and stored once a night, and changes are logged.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import bindparam, text

from schema.database import Database
from schema.types import UtcDateTime
from schema.vocabulary import Stability
from worker.errors import ScreeningError
from worker.inference.json_values import without_nan
from worker.inference.reference import MEASURES, Reference
from worker.ledger.operations import drift as ledger
from worker.ledger.operations.drift import Cause, Change, Judgement
from worker.ledger.transactions import reading
from worker.monitoring.aggregates import cleaned
from worker.monitoring.drift import statistics
from worker.monitoring.drift.statistics import Chart, Shift
from worker.screening.rules import view_position

log = logging.getLogger(__name__)

#: Age of the oldest images, and the number of the newest ones that are compared: the last days of a busy scanner, the
#: last weeks of a quiet one. The control chart counts every image.
LOOK_BACK = timedelta(days=28)
NEWEST_IMAGES = 500

NIGHT = timedelta(days=1)

#: A night's evaluation is due when the last one is older than this.
DUE_AFTER = timedelta(hours=20)

#: When an evaluation could not be made, it is tried again after this time.
RETRY_S = 3600.0

FLAG_RATE = "flag_rate"

OBSERVED = f"""
    SELECT screening.model_digest, series.manufacturer,
        COALESCE(NULLIF(series.station_name, ''), series.device_serial_number) AS station, instance.view,
        screening.screened_at, screening.threshold, {", ".join(f"finding.{name}" for name in MEASURES)}
    FROM screening
    JOIN finding ON finding.screening_id = screening.id
    JOIN instance ON instance.id = finding.instance_id
    JOIN series ON series.id = instance.series_id
    WHERE screening.screened_on >= :day AND screening.screened_at > :since
        AND screening.shadow_of IS NULL AND finding.probability IS NOT NULL
    ORDER BY screening.id DESC
"""


class Source(NamedTuple):
    """The images that are compared together: one model, scanner and view."""

    model_digest: str
    manufacturer: str
    station: str  #: Station Name, else Device Serial Number
    view: str  #: AP, PA, other, or none without a view in the header


@dataclass
class Observed:
    """The images of one source, the newest first."""

    rows: list[Sequence[float | None]] = field(default_factory=list)  #: values of MEASURES for the newest images
    nights: dict[int, list[int]] = field(default_factory=dict)  #: nights ago -> flagged, images

    @property
    def images(self) -> int:
        """The number of all images, not only the compared ones."""
        return sum(n for _, n in self.nights.values())

    @property
    def flagged(self) -> int:
        """The number of flagged images."""
        return sum(flagged for flagged, _ in self.nights.values())


@dataclass(frozen=True)
class Drift:
    """How the images of one source compare with their model's reference."""

    source: Source
    model: str  #: name of the model
    images: int
    compared: int  #: number of newest images that are compared
    flag_rate: float  #: of all images
    reference_flag_rate: float | None
    mixture: dict[str, float]  #: class of the reference -> the share that explains the probabilities best
    shifts: dict[str, Shift]  #: by measure
    means: dict[str, tuple[float, float]]  #: by measure: observed, and expected for this mixture
    night: Chart

    @property
    def status(self) -> Stability:
        """The worst status of its measures. Without a reference only the flag rate can be worse than `no_reference`."""
        if not self.shifts and self.night.status.rank <= Stability.STEADY.rank:
            return Stability.NO_REFERENCE
        return statistics.worst([self.night.status, *(shift.status for shift in self.shifts.values())])

    @property
    def judgements(self) -> Iterator[Judgement]:
        """The measures that could be judged."""
        for measure, shift in self.shifts.items():
            if shift.status is not Stability.TOO_FEW:
                cause = Cause(*self.source, measure)
                yield Judgement(cause, self.compared, shift.excess, None, shift.limit, shift.status)
        night = self.night
        if night.status is not Stability.TOO_FEW:
            cause = Cause(*self.source, FLAG_RATE)
            yield Judgement(cause, self.images, night.rate, night.low, night.high, night.status)

    def to_json(self) -> dict[str, Any]:
        """Plain values; unknown ones are null."""
        shifts = {
            name: {"mean": self.means[name][0], "expected_mean": self.means[name][1]} | vars(shift)
            for name, shift in self.shifts.items()
        }
        plain = {
            **self.source._asdict(),
            **{name: getattr(self, name) for name in ("model", "status", "images", "compared", "mixture")},
            "psi": shifts,
            FLAG_RATE: {"all": self.flag_rate, "reference": self.reference_flag_rate, "last_night": vars(self.night)},
        }
        found: dict[str, Any] = without_nan(plain)
        return found


def read(database: Database, now: datetime, since: datetime | None = None) -> list[Drift]:
    """Every source with images of the last `LOOK_BACK`, or since a moment; the worst first, then the largest.

    With `since` all images are compared, else the newest NEWEST_IMAGES.
    """
    start, most = (now - LOOK_BACK, NEWEST_IMAGES) if since is None else (since, None)
    bound = text(OBSERVED).bindparams(bindparam("since", type_=UtcDateTime()))
    statement = bound.columns(screened_at=UtcDateTime())
    with reading(database) as connection:
        rows = connection.execute(
            statement.execution_options(yield_per=1000), {"day": f"{start:%Y-%m-%d}", "since": start}
        )
        observed = _gather(rows, now, most)
        # after the results, which may be of a new model
        models = {row.digest: row for row in connection.execute(text("SELECT digest, name, card FROM model_version"))}
    found = []
    for source, images in observed.items():
        model = models[source.model_digest]
        card = json.loads(model.card) if isinstance(model.card, str) else model.card
        stored = card.get("reference")
        found.append(compare(source, model.name, images, Reference.from_json(stored) if stored else None))
    return sorted(found, key=lambda drift: (-drift.status.rank, -drift.images, drift.source))


def compare(source: Source, model: str, images: Observed, reference: Reference | None) -> Drift:
    """Compare the images of one source with the reference of their model."""
    compared = statistics.Shifts({}, {}, {})
    if reference is not None:
        values = np.array([[math.nan if v is None else v for v in row] for row in images.rows], np.float64)
        known = {name: values[~np.isnan(values[:, i]), i] for i, name in enumerate(MEASURES)}
        compared = statistics.compare_all(known, reference)
    flagged, n = images.nights.get(0, (0, 0))
    return Drift(
        source=source,
        model=model,
        images=images.images,
        compared=len(images.rows),
        flag_rate=images.flagged / images.images,
        reference_flag_rate=None if reference is None else reference.flag_rate,
        **vars(compared),
        night=statistics.chart(flagged, n, images.flagged - flagged, images.images - n),
    )


def view_of(view: str | None) -> str:
    """AP, PA, none or other: the view of an image, as in `Source`."""
    if (view or "none").upper().startswith("NONE"):
        return "none"
    return view_position(view) or "other"


def judge(database: Database, now: datetime) -> list[Drift]:
    """Evaluate drift, store the judgements, and log changes of status."""
    found = read(database, now)
    for change in ledger.record(database, [judged for drift in found for judged in drift.judgements], now):
        _log_change(change)
    return found


@dataclass
class DriftSchedule:
    """Evaluates drift once a night, in one of the processes of an installation."""

    database: Database
    clock: Callable[[], datetime]
    _next_try: float = 0.0

    def run_if_due(self) -> None:
        """Evaluate, if it is due. An outage is logged, and the evaluation tried again later."""
        if time.monotonic() < self._next_try:
            return
        self._next_try = time.monotonic() + RETRY_S
        try:
            last = ledger.last_judged_at(self.database)
            if last is None or not timedelta(0) <= self.clock() - last < DUE_AFTER:
                judge(self.database, self.clock())
        except ScreeningError as error:
            log.error("drift_not_judged", extra={"code": error.code, "reason": error.message})


def _gather(rows: Iterable[Any], now: datetime, most: int | None) -> dict[Source, Observed]:
    observed: dict[Source, Observed] = {}
    for model, manufacturer, station, view, screened_at, threshold, *values in rows:
        source = Source(model, cleaned(manufacturer), cleaned(station), view_of(view))
        images = observed.setdefault(source, Observed())
        if most is None or len(images.rows) < most:
            images.rows.append(values)
        night = images.nights.setdefault(max(0, (now - screened_at) // NIGHT), [0, 0])
        night[0] += values[0] >= threshold
        night[1] += 1
    return observed


def _log_change(change: Change) -> None:
    """Log a change without the names of the scanner, which may contain a person's; `worker drift` shows them."""
    judged, cause = change.judgement, change.judgement.cause
    about: dict[str, Any] = {"model_digest": cause.model_digest, "view": cause.view, "measure": cause.measure}
    about |= {"value": judged.value, "low": judged.low, "high": judged.high, "images": judged.images}
    log.warning(f"drift_{change.event}", extra=about)
