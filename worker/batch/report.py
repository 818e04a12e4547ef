"""The report that a batch leaves for the morning: a CSV row a study and a scanner, and an HTML page with the sums."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, text

from schema.database import Database, in_lists
from schema.vocabulary import FileState, StudyState, Verdict
from worker.errors import ScreeningError
from worker.ledger.transactions import reading
from worker.monitoring.drift import evaluate
from worker.monitoring.drift.evaluate import Drift
from worker.monitoring.drift.table import PLAIN_COLUMNS, plain_rows, section

ROWS = """
    SELECT study.study_uid, study.accession_number, study.state, study.failure_code,
           screening.verdict, screening.reason, screening.detail,
           screening.probability, screening.threshold, screening.model_digest,
           (SELECT MIN(path) FROM arrival WHERE arrival.study_id = study.id) AS path
    FROM study
    LEFT JOIN screening ON screening.id = study.current_screening_id AND screening.revision = study.revision
    WHERE study.study_uid IN :uids
"""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Batch of {night}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b2733 }}
table {{ border-collapse: collapse; margin: 0 0 2rem }}
th, td {{ text-align: left; padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid #d5dbe1 }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums }}
td.watch {{ background: #fff3cd }} td.left_limits {{ background: #f8d7da; font-weight: 600; white-space: nowrap }}
.wide {{ font-size: .85rem; overflow-x: auto }} .wide th, .wide td {{ padding-right: .7rem; vertical-align: top }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.1rem }} .note {{ color: #5a6875 }}
</style>
<h1>Batch of {night}</h1>
<p>{sentence}</p>
{tables}
<p class="note">Research use only; not a medical device. Every study is in {csv}.</p>
</html>
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
    """What the night gave."""

    began_at: datetime
    ended_at: datetime
    files: dict[FileState, int]
    rows: list[Row]
    left: int  #: files or studies for the next night
    drifts: Sequence[Drift] = ()
    unjudged: str = ""  #: why there are none

    @property
    def screened(self) -> int:
        """Studies with a result."""
        return sum(row.state == StudyState.SCREENED for row in self.rows)

    @property
    def per_hour(self) -> float:
        """Studies screened an hour."""
        return self.screened / max(1.0, (self.ended_at - self.began_at).total_seconds()) * 3600

    @property
    def is_complete(self) -> bool:
        """Whether every study that was taken has its result."""
        return self.screened == len(self.rows)

    @property
    def sentence(self) -> str:
        """The night in a line."""
        flagged = sum(row.verdict == Verdict.FLAGGED for row in self.rows)
        failed = sum(row.state == StudyState.FAILED for row in self.rows)
        return (
            f"{self.screened} of {len(self.rows)} studies screened, {flagged} flagged, {failed} failed;"
            f" {self.per_hour:,.0f} an hour; {self.left} left for the next night"
        )


def read_rows(database: Database, study_uids: Sequence[str]) -> list[Row]:
    """What the ledger holds of these studies now, flagged ones first, the likeliest on top."""
    statement = text(ROWS).bindparams(bindparam("uids", expanding=True))
    found = []
    with reading(database) as connection:
        for uids in in_lists(study_uids):
            found += [Row(*row) for row in connection.execute(statement, {"uids": uids})]
    return sorted(found, key=lambda row: (row.verdict != Verdict.FLAGGED, -(row.probability or 0.0), row.study_uid))


def judge_drift(database: Database, now: datetime) -> tuple[Sequence[Drift], str]:
    """What is judged of every scanner and view; or nothing, and why: the night has its report all the same."""
    try:
        return evaluate.judge(database, now), ""
    except ScreeningError as error:
        return (), f"{error} [{error.code}]"


def write(batch_report: BatchReport, folder: Path) -> tuple[Path, Path, Path]:
    """Write the files into `folder`, named by the moment the batch began: HTML, CSV of the studies, CSV of drift."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"batch_{batch_report.began_at.astimezone():%Y-%m-%d_%H%M%S}"
    page, table, evaluate = (folder / f"{name}{ending}" for ending in (".html", ".csv", "_drift.csv"))
    _write_csv(table, [field.name for field in fields(Row)], [list(vars(row).values()) for row in batch_report.rows])
    _write_csv(evaluate, PLAIN_COLUMNS, list(plain_rows(batch_report.drifts)))
    page.write_text(
        PAGE.format(
            night=f"{batch_report.began_at.astimezone():%Y-%m-%d %H:%M}",
            sentence=escape(batch_report.sentence),
            tables="\n".join(_tables(batch_report)),
            csv=escape(table.name),
        ),
        encoding="utf-8",
    )
    return page, table, evaluate


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_harmless(value) for value in row] for row in rows)


def _tables(batch_report: BatchReport) -> Iterator[str]:
    verdicts = Counter(row.verdict or row.state for row in batch_report.rows)
    yield _table("Studies by verdict, those without one by state", ("outcome", "studies"), verdicts.most_common())
    for title, verdict in (("Unscreenable", Verdict.UNSCREENABLE), ("Ineligible", Verdict.INELIGIBLE)):
        reasons = Counter(row.reason for row in batch_report.rows if row.verdict == verdict)
        yield _table(f"{title}, by reason", ("reason", "studies"), reasons.most_common())
    failures = Counter(row.failure_code for row in batch_report.rows if row.state == StudyState.FAILED)
    yield _table("Failed, by code", ("code", "studies"), failures.most_common())
    yield _table("Files", ("state", "files"), sorted(batch_report.files.items()))
    yield section(batch_report.drifts, batch_report.unjudged)
    flagged = [
        (row.study_uid, row.accession_number, f"{row.probability:.3f}", f"{row.threshold:.3f}")
        for row in batch_report.rows
        if row.verdict == Verdict.FLAGGED and row.probability is not None
    ]
    yield _table("Flagged", ("study", "accession number", "probability", "threshold"), flagged)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return f"<h2>{escape(title)}</h2>\n<p>None.</p>"
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "\n".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2>\n<table><tr>{head}</tr>\n{body}\n</table>"


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{escape('' if value is None else str(value).replace('_', ' '))}</td>"


def _harmless(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: UIDs, names and paths are whatever a file said."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
