"""Print tables on a terminal, and JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from schema.vocabulary import Band, FileState
from worker.monitoring.reconciliation import Account
from worker.worklist.queries import QuarantinedFile, WorklistEntry

if TYPE_CHECKING:
    from worker.service.service import Batch

COLOURS = {
    Band.STAT: "bold magenta",
    Band.OVERDUE: "magenta",
    Band.FLAGGED: "bold red",
    Band.ATTENTION: "yellow",
    Band.WAITING: "cyan",
    Band.NOT_FLAGGED: "green",
    Band.INELIGIBLE: "dim",
}

#: Width of output to a file or a program.
PIPED_WIDTH = 132

#: Without markup, because names of files and patients are untrusted input.
console = Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)

#: Below this width the worklist leaves out accession number and study UID.
NARROW = 110

#: Columns of the worklist: (heading, narrowest width, right-aligned, shown on a narrow terminal).
COLUMNS = (
    ("#", 2, True, True),
    ("verdict", 12, False, True),
    ("prob.", 5, True, True),
    ("why here", 20, False, True),
    ("accession", 9, False, False),
    ("study", 13, False, False),
    ("file", 8, False, True),
    ("waited", 6, True, True),
)


def plain(text: object) -> str:
    """Text for a terminal: characters that are not printable (escapes, line breaks, right-to-left marks) as codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_worklist(entries: Sequence[WorklistEntry], unread: int) -> None:
    """The worklist as a table, the first to read on top."""
    title = f"Worklist: {unread} unread {'study' if unread == 1 else 'studies'}"
    table = Table(title=title, title_justify="left", padding=(0, 0, 0, 1), box=SIMPLE_HEAD)
    shown = [c for c in COLUMNS if c[3] or console.width >= NARROW]
    for name, width, is_right, _ in shown:
        justify: Literal["right", "left"] = "right" if is_right else "left"
        table.add_column(name, justify=justify, min_width=width, no_wrap=name != "why here", overflow="ellipsis")
    for entry in entries:
        cells = {
            "#": str(entry.place),
            "verdict": entry.verdict or entry.state,
            "prob.": "" if entry.probability is None else f"{entry.probability:.3f}",
            "why here": plain(explained(entry)),
            "accession": plain(entry.accession_number or ""),
            "study": plain(shortened(entry.study_uid)),
            "file": plain(_files(entry.sources)),
            "waited": _since(entry.received_at),
        }
        table.add_row(*(cells[name] for name, *_ in shown), style=COLOURS[Band(entry.band)])
    console.print(table)
    if unread > len(entries):
        console.print(f"... and {unread - len(entries)} more: worker worklist --limit {unread}")


def explained(entry: WorklistEntry) -> str:
    """Why the study has its place, in words."""
    parts = [entry.reason]
    if entry.verdict_reason and entry.verdict_reason != entry.reason:
        parts.append(entry.verdict_reason)
    if entry.verdict_detail and entry.verdict_reason in parts:
        parts.append(entry.verdict_detail)
    if entry.conflict and entry.conflict not in parts:
        parts.append(f"conflict {entry.conflict}")
    words = [part.replace("_", " ") for part in parts]
    return ", ".join([*words, *filter(None, [marked(entry)])])


def marked(entry: WorklistEntry) -> str:
    """What a reader has said of a study that is on the list all the same."""
    if entry.review_outcome is None:
        return ""
    if entry.review_withdrawn is not None:
        return f"verdict of {entry.review_reader} withdrawn ({entry.review_withdrawn})"
    return f"read as {entry.review_outcome.replace('_', ' ')} by {entry.review_reader}"


def print_quarantine(files: Sequence[QuarantinedFile]) -> None:
    """The files that could not be read, and why."""
    for file in files:
        console.print(f"{file.seen_at:%Y-%m-%d %H:%M}  {file.code}", style="yellow", end="  ")
        console.print(plain(file.path), soft_wrap=True)
        console.print(f"  {plain(file.message)}", soft_wrap=True)
    console.print(f"{len(files)} quarantined {'file' if len(files) == 1 else 'files'}; their bytes are in the store")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A plain table."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else plain(cell) for cell in row))
    console.print(table)


def print_models(rows: Iterable[dict[str, Any]]) -> None:
    """Each model, and under it the decisions about it and its comparisons, by time."""
    for row in rows:
        threshold = "" if row["threshold"] is None else f", flags from {row['threshold']:.4f} on"
        console.print(plain(f"{row['standing']}: {row['name']} ({row['digest'][:12]}){threshold}"), style="bold")
        said = [(d["at"], d["action"], d["by"], d["reason"]) for d in row["decisions"]]
        for c in row["comparisons"]:
            outcome = "accepted" if c["is_accepted"] else "REFUSED"
            said.append((c["at"], f"comparison with {c['against'][:12]} {outcome}", c["by"], c["says"]))
        for at, what, by, why in sorted(said, key=lambda line: line[0]):
            line = f"  {at[:16].replace('T', ' ')}  {what}, by {by}{f': {why}' if why else ''}"
            console.print(plain(line), soft_wrap=True)


def shortened(uid: str) -> str:
    """The end of a UID, where UIDs differ, for a column."""
    return uid if len(uid) <= 13 else f"…{uid[-12:]}"


def _files(paths: Sequence[str]) -> str:
    if not paths:
        return ""
    name = paths[0].rsplit("/", 1)[-1]
    return name if len(paths) == 1 else f"{name} +{len(paths) - 1}"


def _since(moment: datetime) -> str:
    minutes, seconds = divmod(int((datetime.now(UTC) - moment).total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d}" if hours else f"{minutes} min" if minutes else f"{seconds} s"


def print_batch(batch: "Batch") -> None:
    """The files and studies of one `worker screen`, by outcome."""
    files = ", ".join(f"{n} {state}" for state, n in sorted(batch.files.items()))
    verdicts = ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in sorted(batch.verdicts.items()))
    console.print(f"these files: {files or 'none'}")
    console.print(f"their studies: {verdicts or 'none'}")
    if batch.resumed:
        console.print(f"and {batch.resumed} studies of an earlier command that were still waiting")
    if batch.files.get(FileState.QUARANTINED):
        console.print("`worker quarantine` lists the files that could not be read, and why")


#: Columns that are not shown to people.
INTERNAL = frozenset({"id", "sort_key", "claim", "current_screening_id", "study_id", "screening_id"})


def print_study(kept: dict[str, Any]) -> None:
    """All data of one study, one value per line, so that paths and UIDs can be copied."""
    lists = ("images", "screenings", "files", "reviews", "priorities")
    print_facts("Study", {name: value for name, value in kept.items() if name not in lists})
    for name in lists:
        for number, row in enumerate(kept[name], start=1):
            print_facts(f"{name.capitalize()} {number} of {len(kept[name])}", row)


def print_facts(title: str, facts: dict[str, Any]) -> None:
    """A title, and under it a line for each known value."""
    console.print(title, style="bold", soft_wrap=True)
    for name, value in facts.items():
        if name in INTERNAL or value is None or value in ([], ""):
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        lines = (
            text.splitlines() if name == "failure_detail" else [text]
        )  # a traceback; elsewhere a line break is not trusted
        shown = "\n".join(map(plain, lines))
        console.print(f"  {name.replace('_', ' '):24} {shown}", soft_wrap=True)


def print_account(account: Account) -> None:
    """Both sums, and what was found wrong."""
    print_table(f"Files: {account.files_seen} seen", ("state", "files"), sorted(account.files.items()))
    print_table(f"Studies: {account.studies_known} known", ("state", "studies"), sorted(account.studies.items()))
    for name, n in account.faults.items():
        if n:
            console.print(f"FAULT: {n} {name}", style="bold red")
    verdict, colour = ("both sums hold", "green") if account.holds else ("the sums do NOT hold", "red")
    console.print(verdict, style=colour)
