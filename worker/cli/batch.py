"""The verb `worker batch`."""

import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from schema.vocabulary import Verdict
from worker.cli import options
from worker.cli.exit_codes import Exit

if TYPE_CHECKING:
    import threading

    from worker.batch.report import BatchReport
    from worker.batch.run import BatchOutcome
    from worker.service.service import RunningService


class Hours(click.ParamType[Any]):
    """A window of local time such as 22:00-06:00."""

    name = "hours"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse it."""
        from worker.schedule.window import Window

        try:
            return Window.parse(value)
        except ValueError as error:
            return self.fail(f"{value!r} is not a window such as 22:00-06:00 ({error})", param, ctx)


class Rate(click.ParamType[float]):
    """A number per second, such as 5/s."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse it."""
        try:
            rate = float(str(value).removesuffix("/s"))
        except ValueError:
            rate = 0.0
        return rate if rate > 0 else self.fail(f"{value!r} is not a rate such as 5/s", param, ctx)


@click.command()
@click.argument(
    "folder", metavar="[DIR]", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--rescreen", is_flag=True, help="Instead of DIR: studies screened by another model.")
@options.since("With --rescreen: received on this day (UTC) or later.")
@click.option(
    "--verdict", type=click.Choice([str(v) for v in Verdict]), help="With --rescreen: studies with this verdict."
)
@click.option("--between", type=Hours(), metavar="22:00-06:00", help="Start new work only in these hours, local time.")
@click.option("--rate", type=Rate(), metavar="N/s", help="Start at most so many files or studies per second.")
@click.option("--report", type=click.Path(file_okay=False, path_type=Path), help="Folder of the report.")
def batch(
    folder: Path | None,
    rescreen: bool,
    since: datetime | None,
    verdict: str | None,
    between: Any,
    rate: float | None,
    report: Path | None,
) -> None:
    """Screen an archive in place, or stored studies with the active model, when no other study waits.

    Ends at the window's end or on SIGTERM; the same command continues. Exit 2: a study has no result, or it was stopped
    before anything was begun.
    """
    if (folder is None) is not rescreen or (not rescreen and (since or verdict)):
        raise click.UsageError("give a DIR, or --rescreen (optionally with --since and --verdict)")
    from worker.batch.report import write
    from worker.runtime import home, logs
    from worker.runtime.stop_signals import stop_requested
    from worker.service.service import running_service

    settings = options.settings()
    logs.configure("WARNING" if sys.stderr.isatty() else settings.log_level)
    stop = stop_requested()
    with (
        home.hold_home(settings, "batch", with_worker=settings.is_embedded) as installation,
        running_service(installation) as service,
    ):
        outcome, found = _screen(service, stop, folder, options.start_of(since), verdict, between, rate)
        path_in_log = service.intake.identifiers.path
    if stop.is_set() and not outcome.files and not found.rows and outcome.left:
        click.echo(f"worker: stopped before anything was begun; {outcome.left:,} files or studies are left", err=True)
        sys.exit(Exit.INCOMPLETE)
    written = write(found, report or settings.home / "reports")
    if found.unjudged:
        click.echo(f"worker: drift could not be judged: {found.unjudged}", err=True)
    for unlisted in outcome.unlisted:
        shown = unlisted if sys.stderr.isatty() else path_in_log(unlisted)  # a log must not contain the name
        click.echo(f"worker: {shown}: this folder cannot be listed; its files were not taken in", err=True)
    click.echo("\n".join([found.sentence, *map(str, written)]))
    sys.exit(Exit.OK if found.is_complete and not outcome.unlisted else Exit.INCOMPLETE)


def _screen(
    service: "RunningService",
    stop: "threading.Event",
    folder: Path | None,
    since: datetime,
    verdict: str | None,
    between: Any,
    rate: float | None,
) -> "tuple[BatchOutcome, BatchReport]":
    """Screen the archive in `folder`, or stored studies where there is none, with a row of the ledger for the run."""
    from worker.app import backlog, enqueue
    from worker.batch.report import BatchReport, judge_drift, read_rows
    from worker.batch.run import Batch, archive, stored
    from worker.cli.progress import bars
    from worker.ledger.clocks import now
    from worker.ledger.operations import batch_runs
    from worker.schedule.window import ALL_DAY

    database, window = service.intake.database, between or ALL_DAY
    with bars() as progress, batch_runs.recorded(database, window.closes_at(now().astimezone())) as summary:
        source = stored(service, since, verdict) if folder is None else archive(service, folder.absolute())
        batch = Batch(service, source, enqueue, backlog, stop, window, rate, progress, waiting=_print_opening)
        outcome = batch.run()
        rows = read_rows(database, outcome.study_uids)
        found = BatchReport(outcome.began_at, outcome.ended_at, outcome.files, rows, outcome.left)
        summary.studies, summary.remaining = len(rows), outcome.left
        summary.without_result = len(rows) - found.screened
    drifts, unjudged = judge_drift(database, outcome.ended_at)
    return outcome, replace(found, drifts=drifts, unjudged=unjudged)


def _print_opening(opens_at: datetime, pieces: int) -> None:
    """Say until when the batch waits, and how many files or studies it has."""
    click.echo(
        f"worker: outside the hours of --between: waits until {opens_at:%Y-%m-%d %H:%M %Z}, with {pieces:,} files or"
        " studies; SIGTERM or Ctrl-C ends it",
        err=True,
    )
