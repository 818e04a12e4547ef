"""The worklist on a terminal of any width: place, verdict and reason are never shortened, names of files are."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.table import Table

from schema.vocabulary import Band, Reason, Verdict
from worker.cli.tables import console, printable
from worker.screening.ages import in_short
from worker.screening.remarks import remarks
from worker.worklist.unread_list import WorklistEntry

COLOURS = {
    Band.STAT: "bold magenta",
    Band.OVERDUE: "magenta",
    Band.FLAGGED: "bold red",
    Band.ATTENTION: "yellow",
    Band.WAITING: "cyan",
    Band.NOT_FLAGGED: "green",
    Band.INELIGIBLE: "dim",
}

#: What a model's familiarity beyond its limit means to a reader.
UNLIKE = "unlike the images this model was made from"

#: What stands beside a flag, in words.
REMARKS = {Reason.OUTSIDE_POPULATION: "outside the model's population", Reason.UNFAMILIAR: UNLIKE}

#: Narrowest columns: the reason, and the name of a file that is cut.
REASON_WIDTH, FILE_WIDTH = 24, 14

#: Between two columns.
GAP = 2

#: Columns that a narrow terminal keeps beside the reason.
KEPT = ("#", "verdict", "prob.", "waited")

#: Columns with numbers.
RIGHT = frozenset({"#", "prob.", "waited", "age"})


def print_worklist(entries: Sequence[WorklistEntry], unread: int, *, shows_identifiers: bool = True) -> None:
    """The worklist, the first to read on top: a line for each study, or several where the terminal is narrow.

    `shows_identifiers`: patient ID, age and study date too.
    """
    title = f"Worklist: {unread} unread {'study' if unread == 1 else 'studies'}"
    title += ", silent run: verdicts are not shown" if any(entry.is_silent for entry in entries) else ""
    rows = [_cells(entry, shows_identifiers) for entry in entries]
    rows = _fitted(rows, console.width) if rows else []
    table = Table(title=title, title_justify="left", padding=(0, 0, 0, 1), box=SIMPLE_HEAD)
    for name in rows[0] if rows else ():
        is_free = name == "why here"
        table.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=not is_free, overflow="fold")
    for entry, row in zip(entries, rows, strict=True):
        table.add_row(*row.values(), style=COLOURS[Band(entry.band)])
    console.print(table)
    if unread > len(entries):
        console.print(f"... and {unread - len(entries)} more: worker worklist --limit {unread}")


def cut(name: str, width: int) -> str:
    """A name of at most `width` characters: its middle is left out, because files differ at the ends of their names."""
    if len(name) <= width:
        return name
    kept = max(2, width - 1)
    return f"{name[: kept - kept // 2]}…{name[len(name) - kept // 2 :]}"


def explained(entry: WorklistEntry) -> str:
    """Why the study has its place, in words."""
    parts = [entry.reason]
    if entry.verdict_reason and entry.verdict_reason != entry.reason:
        parts.append(entry.verdict_reason)
    if entry.verdict == Verdict.FLAGGED:
        parts += [REMARKS[reason] for reason, _ in remarks(entry.verdict_detail)]
    elif is_unlike(entry.verdict_detail):
        parts.append(UNLIKE)
    elif entry.verdict_detail and entry.verdict_reason in parts:
        parts.append(entry.verdict_detail)
    if entry.conflict and entry.conflict not in parts:
        parts.append(f"conflict {entry.conflict}")
    words = [part.replace("_", " ") for part in parts]
    return ", ".join([*words, *filter(None, [marked(entry)])])


def is_unlike(detail: str | None) -> bool:
    """Whether a verdict's detail says that the familiarity is beyond the limit (screening.rules)."""
    return any(reason is Reason.UNFAMILIAR for reason, _ in remarks(detail))


def marked(entry: WorklistEntry) -> str:
    """What a reader has said of a study that is on the list all the same."""
    if entry.review_outcome is None:
        return ""
    if entry.review_withdrawn is not None:
        return f"verdict of {entry.review_reader} withdrawn ({entry.review_withdrawn})"
    return f"read as {entry.review_outcome.replace('_', ' ')} by {entry.review_reader}"


def shortened(uid: str) -> str:
    """A UID short enough for a column: its end, where UIDs differ."""
    return uid if len(uid) <= 13 else f"…{uid[-12:]}"


def date(dicom: str | None) -> str:
    """YYYYMMDD as YYYY-MM-DD; anything else as it is."""
    text = dicom or ""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


def _cells(entry: WorklistEntry, shows_identifiers: bool) -> dict[str, str]:
    """Every cell of a study's row, by heading."""
    named = {"patient": entry.patient_id or "", "age": in_short(entry.age_years), "date": date(entry.study_date)}
    cells = {
        "#": str(entry.place),
        "verdict": (entry.verdict or entry.state).replace("_", " "),
        "prob.": "" if entry.probability is None else f"{entry.probability:.3f}",
        "why here": explained(entry),
        **(named if shows_identifiers else {}),
        "accession": entry.accession_number or "",
        "study": shortened(entry.study_uid),
        "file": _files(entry.sources),
        "waited": _since(entry.received_at),
    }
    return {name: printable(cell) for name, cell in cells.items()}


def _fitted(rows: list[dict[str, str]], width: int) -> list[dict[str, str]]:
    """The rows for a terminal of this width: names of files cut, or all names under the reason if it is narrow."""
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    fixed = sum(widths[name] + GAP for name in widths if name not in ("why here", "file"))
    free = width - fixed - 2 * GAP - 1
    if free < REASON_WIDTH + FILE_WIDTH:
        room = width - sum(widths[name] + GAP for name in KEPT) - GAP - 1
        return [_folded(row, room) for row in rows]
    reason = min(widths["why here"], max(REASON_WIDTH, free - widths["file"]))
    return [row | {"file": cut(row["file"], free - reason)} for row in rows]


def _folded(row: dict[str, str], room: int) -> dict[str, str]:
    """The row with its names under the reason, in lines of their own of at most `room` characters."""
    patient = f"patient {row['patient']}" if row.get("patient") else ""
    known = ", ".join(filter(None, (patient, row.get("age"), row.get("date"), row["accession"])))
    lines = (row["why here"], known, cut(row["file"], max(FILE_WIDTH, room)) or row["study"])
    *first, last = KEPT
    return {**{name: row[name] for name in first}, "why here": "\n".join(filter(None, lines)), last: row[last]}


def _files(paths: Sequence[str]) -> str:
    if not paths:
        return ""
    name = paths[0].rsplit("/", 1)[-1]
    return name if len(paths) == 1 else f"{name} +{len(paths) - 1}"


def _since(moment: datetime) -> str:
    minutes, seconds = divmod(int((datetime.now(UTC) - moment).total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d}"
    return f"{minutes} min" if minutes else f"{seconds} s"
