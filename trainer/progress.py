"""Progress of a run: bars and lines on a terminal, JSON lines into a pipe. Events are plain dictionaries."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

Event = dict[str, Any]
Report = Callable[[Event], None]

#: Events that come by the hundred, and the text of their bar. Into a pipe, one is written every `QUIET_S` seconds.
FREQUENT = {"reading": "reading images", "batch": "epoch {epoch}: loss {loss:.3f}, accuracy {accuracy:.3f}"}
QUIET_S = 10.0


def silent(event: Event) -> None:
    """A Report that writes nothing."""


@contextmanager
def reporting(log: Path | None = None, out: TextIO | None = None) -> Iterator[Report]:
    """A Report to `out` (default standard output) and, as JSON lines, appended to the file `log`."""
    out = out or sys.stdout
    with ExitStack() as stack:
        sinks = [stack.enter_context(_bars(out)) if out.isatty() else _json_lines(out)]
        if log is not None:
            sinks.append(_json_lines(stack.enter_context(log.open("a", encoding="utf-8"))))

        def report(event: Event) -> None:
            for sink in sinks:
                sink(event)

        yield report


def _json_lines(out: TextIO) -> Report:
    written_at: dict[str, float] = {}

    def report(event: Event) -> None:
        name, now = event["event"], time.monotonic()
        if name in FREQUENT and now - written_at.get(name, -QUIET_S) < QUIET_S:
            return
        written_at[name] = now
        out.write(json.dumps(event) + "\n")
        out.flush()

    return report


@contextmanager
def _bars(out: TextIO) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=out)) as progress:
        tasks: dict[str, Any] = {}

        def report(event: Event) -> None:
            name = event["event"]
            if name not in FREQUENT:
                fields = "  ".join(f"{key} {_short(value)}" for key, value in event.items() if key != "event")
                progress.console.print(Text.assemble((name, "bold"), f"  {fields}"), highlight=False)
                return
            if name not in tasks:
                tasks[name] = progress.add_task("", total=event["total"])
            text = FREQUENT[name].format(**event)
            progress.update(tasks[name], completed=event["done"], total=event["total"], description=text)

        yield report


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
