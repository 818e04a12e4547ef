"""Write the report of a batch: a CSV of its studies, a CSV of drift, and an HTML page with the counts."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from sqlalchemy import bindparam, text

from schema.database import Database, in_lists
from schema.vocabulary import FileState, StudyState, Verdict
from worker.errors import ScreeningError
from worker.ledger.transactions import reading
from worker.monitoring.drift import evaluate
from worker.monitoring.drift.evaluate import Drift
from worker.monitoring.drift.table import PLAIN_COLUMNS, drift_table, plain_rows

ROWS = """
    SELECT study.study_uid, study.accession_number, study.state, study.failure_code,
           screening.verdict, screening.reason, screening.detail,
           screening.probability, screening.threshold, screening.model_digest,
           (SELECT MIN(path) FROM arrival WHERE arrival.study_id = study.id) AS path
    FROM study
    LEFT JOIN screening ON screening.id = study.current_screening_id AND screening.revision = study.revision
    WHERE study.study_uid IN :uids
"""


@dataclass(frozen=True)
class Row:
    """One study of the batch."""

    study_uid: str
    accession_number: str | None
    state: str
    failure_code: str | None
    verdict: str | None
    reason: str | None
    detail: str | None
    probability: float | None
    threshold: float | None
    model_digest: str | None
    path: str | None  #: one of its files, as it was found


@dataclass(frozen=True)
class BatchReport:
    """The results of a batch."""

    began_at: datetime
    ended_at: datetime
    files: dict[FileState, int]
    rows: list[Row]
    left: int  #: files or studies left for the next batch
    drifts: Sequence[Drift] = ()
    unjudged: str = ""  #: why drift could not be evaluated

    @property
    def screened(self) -> int:
        """Studies with a result."""
        return sum(row.state == StudyState.SCREENED for row in self.rows)

    @property
    def per_hour(self) -> float:
        """Studies screened per hour."""
        return self.screened / max(1.0, (self.ended_at - self.began_at).total_seconds()) * 3600

    @property
    def is_complete(self) -> bool:
        """Whether every study of the batch has its result."""
        return self.screened == len(self.rows)

    @property
    def sentence(self) -> str:
        """The results in one sentence."""
        flagged = sum(row.verdict == Verdict.FLAGGED for row in self.rows)
        failed = sum(row.state == StudyState.FAILED for row in self.rows)
        unread = self.files.get(FileState.QUARANTINED, 0)
        unreadable = f"; {unread} files could not be read, see `worker quarantine`" if unread else ""
        return (
            f"{self.screened} of {len(self.rows)} studies screened, {flagged} flagged, {failed} failed;"
            f" {self.per_hour:,.0f} an hour; {self.left} left for the next night{unreadable}"
        )


def read_rows(database: Database, study_uids: Sequence[str]) -> list[Row]:
    """The rows of these studies in the ledger, flagged ones first, by falling probability."""
    statement = text(ROWS).bindparams(bindparam("uids", expanding=True))
    found = []
    with reading(database) as connection:
        for uids in in_lists(study_uids):
            found += [Row(*row) for row in connection.execute(statement, {"uids": uids})]
    return sorted(found, key=lambda row: (row.verdict != Verdict.FLAGGED, -(row.probability or 0.0), row.study_uid))


def judge_drift(database: Database, now: datetime) -> tuple[Sequence[Drift], str]:
    """The drift of every scanner and view; or none, and the reason, so that the report is written anyway."""
    try:
        return evaluate.judge(database, now), ""
    except ScreeningError as error:
        return (), f"{error} [{error.code}]"


def write(batch_report: BatchReport, folder: Path) -> tuple[Path, Path, Path]:
    """Write the files into `folder`, named by the time when the batch began: HTML, CSV of studies, CSV of drift."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"batch_{batch_report.began_at.astimezone():%Y-%m-%d_%H%M%S}"
    page, table, drift = (folder / f"{name}{ending}" for ending in (".html", ".csv", "_drift.csv"))
    _write_csv(table, [field.name for field in fields(Row)], [list(vars(row).values()) for row in batch_report.rows])
    _write_csv(drift, PLAIN_COLUMNS, list(plain_rows(batch_report.drifts)))
    page.write_text(_page(batch_report, table.name), encoding="utf-8")
    return page, table, drift


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_harmless(value) for value in row] for row in rows)


class CountTable(NamedTuple):
    """A table of the page; whole numbers are aligned to the right."""

    title: str
    columns: Sequence[str]
    rows: list[list[str | int]]


def _page(batch_report: BatchReport, csv_name: str) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("worker.batch"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    *tables, flagged = _tables(batch_report)
    return environment.get_template("report.html.j2").render(
        began=f"{batch_report.began_at.astimezone():%Y-%m-%d %H:%M}",
        sentence=batch_report.sentence,
        tables=tables,
        flagged=flagged,
        drift=drift_table(batch_report.drifts),
        unjudged=batch_report.unjudged,
        csv=csv_name,
    )


def _tables(batch_report: BatchReport) -> Iterator[CountTable]:
    """The tables of the page in their order; drift comes before the last one."""
    verdicts = Counter(row.verdict or row.state for row in batch_report.rows)
    yield _table("Studies by verdict, those without one by state", ("outcome", "studies"), verdicts.most_common())
    for title, verdict in (("Unscreenable", Verdict.UNSCREENABLE), ("Ineligible", Verdict.INELIGIBLE)):
        reasons = Counter(row.reason for row in batch_report.rows if row.verdict == verdict)
        yield _table(f"{title}, by reason", ("reason", "studies"), reasons.most_common())
    failures = Counter(row.failure_code for row in batch_report.rows if row.state == StudyState.FAILED)
    yield _table("Failed, by code", ("code", "studies"), failures.most_common())
    yield _table("Files", ("state", "files"), sorted(batch_report.files.items()))
    flagged = [
        (row.study_uid, row.accession_number, f"{row.probability:.3f}", f"{row.threshold:.3f}")
        for row in batch_report.rows
        if row.verdict == Verdict.FLAGGED and row.probability is not None
    ]
    yield _table("Flagged", ("study", "accession number", "probability", "threshold"), flagged)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> CountTable:
    return CountTable(title, columns, [[_cell(value) for value in row] for row in rows])


def _cell(value: Any) -> str | int:
    if isinstance(value, int):
        return value
    return "" if value is None else str(value).replace("_", " ")


def _harmless(value: Any) -> Any:
    """A cell that no spreadsheet reads as a formula, because UIDs, names and paths are untrusted input."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
