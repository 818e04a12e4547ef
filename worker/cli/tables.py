"""Tables on a terminal, or in a file or pipe."""

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from schema.vocabulary import FileState
from worker.monitoring.reconciliation import Account
from worker.worklist.quarantined_files import QuarantinedFile

if TYPE_CHECKING:
    from worker.service.screen_paths import ScreenedPaths

#: Width of output to a file or a program.
PIPED_WIDTH = 132

#: Narrower terminals wrap lines: in fewer columns a table would leave out verdicts.
LEAST_WIDTH = 40

#: From so many columns on a name is printed whole, because it is copied.
WIDE = 80


def width() -> int:
    """Columns of the output: those of the terminal, or of the variable COLUMNS; else PIPED_WIDTH."""
    is_known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return max(LEAST_WIDTH, shutil.get_terminal_size().columns) if is_known else PIPED_WIDTH


#: Without markup, because names of files and patients are untrusted input.
console = Console(markup=False, highlight=False, emoji=False, width=width())


def printable(text: object) -> str:
    """Text for a terminal: characters that are not printable (escapes, line breaks, right-to-left marks) as codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def print_quarantine(files: Sequence[QuarantinedFile]) -> None:
    """The files that could not be read, and why."""
    for file in files:
        console.print(f"{file.seen_at:%Y-%m-%d %H:%M}  {file.code}", style="yellow", end="  ")
        console.print(printable(file.path), soft_wrap=True)
        console.print(f"  {printable(file.message)}", soft_wrap=True)
    console.print(f"{len(files)} quarantined {'file' if len(files) == 1 else 'files'}; their bytes are in the store")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], whole: str = "") -> None:
    """A plain table. The cells of the column `whole` are not divided, where lines are wide enough."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name == whole and console.width >= WIDE)
    for row in rows:
        table.add_row(*("" if cell is None else printable(cell) for cell in row))
    console.print(table)


def print_models(rows: Iterable[dict[str, Any]]) -> None:
    """Each model, and under it the decisions about it and its comparisons, by time."""
    for row in rows:
        threshold = "" if row["threshold"] is None else f", flags from {row['threshold']:.4f} on"
        console.print(printable(f"{row['standing']}: {row['name']} ({row['digest'][:12]}){threshold}"), style="bold")
        events = [(d["at"], d["action"], d["by"], d["reason"]) for d in row["decisions"]]
        for c in row["comparisons"]:
            outcome = "accepted" if c["is_accepted"] else "REFUSED"
            events.append((c["at"], f"comparison with {c['against'][:12]} {outcome}", c["by"], c["says"]))
        for at, what, by, why in sorted(events, key=lambda event: event[0]):
            line = f"  {at[:16].replace('T', ' ')}  {what}, by {by}{f': {why}' if why else ''}"
            console.print(printable(line), soft_wrap=True)


def print_screened(screened: "ScreenedPaths") -> None:
    """The files and studies of one `worker screen`, by outcome."""
    files = ", ".join(f"{n} {state}" for state, n in sorted(screened.files.items()))
    verdicts = ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in sorted(screened.verdicts.items()))
    console.print(f"these files: {files or 'none'}")
    console.print(f"their studies: {verdicts or 'none'}")
    if screened.resumed:
        console.print(f"and {screened.resumed} studies of an earlier command that were still waiting")
    if screened.files.get(FileState.QUARANTINED):
        console.print("`worker quarantine` lists the files that could not be read, and why")


def print_account(account: Account) -> None:
    """Files and studies by state, and what was found wrong."""
    print_table(f"Files: {account.files_seen} seen", ("state", "files"), sorted(account.files.items()))
    print_table(f"Studies: {account.studies_known} known", ("state", "studies"), sorted(account.studies.items()))
    for name, n in account.faults.items():
        if n:
            console.print(f"FAULT: {n} {name}", style="bold red")
    verdict, colour = ("both sums hold", "green") if account.holds else ("the sums do NOT hold", "red")
    console.print(verdict, style=colour)
