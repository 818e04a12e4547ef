"""Sums over the ledger for the metrics. Results are never edited, so past days are summed only once.

Labels contain no names of persons: of the header's text only manufacturer and station are used, shortened and limited
in number.
"""

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, text

from schema.types import UtcDateTime
from worker.screening.timings import Stage

#: Upper bounds of the histograms. Probabilities have twenty bins; waiting and work are in seconds.
PROBABILITIES = tuple(step / 20 for step in range(1, 21))
WAITED_S = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 14400.0, 86400.0)
STAGE_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
BATCHES = (1.0, 2.0, 4.0, 8.0, 16.0)
WORKED_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

#: After this number of days no transaction of a day can still be open, in any time zone.
OPEN_DAYS = 2

#: Longest label from a header (a Station Name holds 16 characters, PS3.5 6.2).
LABEL_CHARACTERS = 32

#: One row for each group of results: their number, then number, sum and cumulative buckets of each histogram.
RESULTS = f"""
    SELECT screening.model_digest, screening.provider,
        CASE WHEN screening.shadow_of IS NULL THEN 'active' ELSE 'shadow' END AS role, screening.verdict,
        series.manufacturer, series.station_name, COUNT(*),
        {{probability}}, {{waited_s}}, {{worked_s}}
    FROM screening
    LEFT JOIN finding ON finding.screening_id = screening.id
        AND finding.ordinal = COALESCE(screening.deciding_finding, 0)
    LEFT JOIN instance ON instance.id = finding.instance_id
    LEFT JOIN series ON series.id = instance.series_id
    WHERE screening.screened_on >= :since AND screening.screened_on < :until
    GROUP BY {", ".join(map(str, range(1, 7)))} ORDER BY MIN(screening.id)
"""

#: One row for each provider and role: the histogram of each stage, and that of batches.
STAGES = """
    SELECT screening.provider, CASE WHEN screening.shadow_of IS NULL THEN 'active' ELSE 'shadow' END AS role,
        {histograms}
    FROM screening
    WHERE screening.screened_on >= :since AND screening.screened_on < :until
    GROUP BY 1, 2
"""

UNREADABLE = """
    SELECT finding.unreadable, instance.transfer_syntax_uid, COUNT(*)
    FROM screening
    JOIN finding ON finding.screening_id = screening.id
    JOIN instance ON instance.id = finding.instance_id
    WHERE screening.screened_on >= :since AND screening.screened_on < :until
        AND screening.shadow_of IS NULL AND finding.unreadable IS NOT NULL
    GROUP BY finding.unreadable, instance.transfer_syntax_uid
"""

STUDIES = """
    SELECT study.state, screening.verdict, COUNT(*)
    FROM study LEFT JOIN screening ON screening.id = study.current_screening_id
    GROUP BY study.state, screening.verdict
"""

UNREAD = "SELECT band, COUNT(*) FROM study WHERE read_at IS NULL GROUP BY band"

FILES = "SELECT state, COUNT(*) FROM arrival GROUP BY state"

QUARANTINED = "SELECT code, COUNT(*) FROM arrival WHERE state = 'quarantined' GROUP BY code"

CLAIMS = text("SELECT COUNT(*) FROM study WHERE state = 'screening' AND lease_until >= :now").bindparams(
    bindparam("now", type_=UtcDateTime())
)

LAST_RESULT = text("SELECT screened_at FROM screening ORDER BY id DESC LIMIT 1").columns(screened_at=UtcDateTime())


@dataclass
class Distribution:
    """Observations of one kind: their number, their sum, and the number at or below each bound."""

    count: float
    total: float
    at_or_below: list[float]


@dataclass
class DayByDay:
    """Sums of an append-only table by a key. The sums of past days are kept in memory."""

    sql: str
    #: Splits a row into labels and numbers; rows with equal labels are summed.
    divide: Callable[[Any], tuple[Hashable, Sequence[float]]]
    kept: dict[Hashable, list[float]] = field(default_factory=dict)
    kept_until: str = ""

    def read(self, connection: Connection, now: datetime) -> dict[Any, list[float]]:
        """The sums up to now."""
        until = f"{now - timedelta(days=OPEN_DAYS):%Y-%m-%d}"
        if until < self.kept_until:  # the clock was ahead before: kept sums may lack results
            self.kept, self.kept_until = {}, ""
        if until > self.kept_until:
            self._add(self.kept, connection, self.kept_until, until)
            self.kept_until = until
        sums = {labels: list(numbers) for labels, numbers in self.kept.items()}
        self._add(sums, connection, until, "9999")
        return sums

    def _add(self, sums: dict[Hashable, list[float]], connection: Connection, since: str, until: str) -> None:
        for row in connection.execute(text(self.sql), {"since": since, "until": until}):
            labels, numbers = self.divide(row)
            before = sums.get(labels, [0.0] * len(numbers))
            sums[labels] = [one + float(other) for one, other in zip(before, numbers, strict=True)]


class Scanners:
    """Labels for scanners (manufacturer and station): the first `most` get their own, the others are `other`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.known: set[tuple[str, str]] = set()

    def labels(self, manufacturer: str | None, station_name: str | None) -> tuple[str, str]:
        """The labels of a scanner, in safe characters."""
        pair = (cleaned(manufacturer), cleaned(station_name))
        if pair not in self.known and len(self.known) >= self.most:
            return "other", "other"
        self.known.add(pair)
        return pair


def results(scanners: Scanners) -> DayByDay:
    """Results by model, provider, role, verdict, manufacturer and station."""

    def divide(row: Sequence[Any]) -> tuple[Hashable, Sequence[float]]:
        model, provider, role, verdict, manufacturer, station, *numbers = row
        return (model, provider, role, verdict, *scanners.labels(manufacturer, station)), numbers

    columns = {"probability": PROBABILITIES, "waited_s": WAITED_S, "worked_s": WORKED_S}
    return DayByDay(RESULTS.format(**{name: _histogram(name, bounds) for name, bounds in columns.items()}), divide)


def unreadable(name_of: Callable[[str | None], str]) -> DayByDay:
    """Images that could not be read when their study was screened, by code and name of the transfer syntax."""
    return DayByDay(UNREADABLE, lambda row: ((row[0], name_of(row[1])), [row[2]]))


def stages() -> DayByDay:
    """Times of the stages, and batches, by provider and role: a histogram for each `Stage`, then one of batches."""
    columns: dict[str, Sequence[float]] = {f"{stage}_s": STAGE_S for stage in Stage} | {"batch_size": BATCHES}
    histograms = ", ".join(_histogram(name, bounds) for name, bounds in columns.items())
    return DayByDay(STAGES.format(histograms=histograms), lambda row: ((row[0], row[1]), row[2:]))


def distributions(numbers: Sequence[float], histograms: Sequence[Sequence[float]]) -> Iterator[Distribution]:
    """The distributions in a row of sums, given the bounds of each histogram."""
    start = 0
    for bounds in histograms:
        end = start + 2 + len(bounds)
        count, total, *at_or_below = numbers[start:end]
        yield Distribution(count, total, at_or_below)
        start = end


def merge(into: dict[tuple[str, ...], Distribution], key: tuple[str, ...], more: Distribution) -> None:
    """Add a distribution to the one of this key."""
    have = into.setdefault(key, Distribution(0.0, 0.0, [0.0] * len(more.at_or_below)))
    have.count += more.count
    have.total += more.total
    have.at_or_below = [one + other for one, other in zip(have.at_or_below, more.at_or_below, strict=True)]


def _histogram(column: str, bounds: Sequence[float]) -> str:
    buckets = (f"SUM(CASE WHEN screening.{column} <= {bound} THEN 1 ELSE 0 END)" for bound in bounds)
    return f"COUNT(screening.{column}), COALESCE(SUM(screening.{column}), 0), {', '.join(buckets)}"


def cleaned(words: str | None) -> str:
    """Text of a header as a label: safe characters only, shortened; `none` if empty."""
    return re.sub(r"[^A-Za-z0-9 ._+-]", "_", (words or "").strip())[:LABEL_CHARACTERS] or "none"
