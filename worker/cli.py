"""The program `worker`: one function a verb. What a verb needs is loaded when it runs."""

import os
import sys
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import click

from schema.vocabulary import FileState, Priority, ReviewOutcome
from worker import shell
from worker.audit_verb import audit
from worker.batch_verb import batch
from worker.drift_verb import drift
from worker.errors import Interrupted, Misconfigured, ScreeningError
from worker.export_verbs import export_deidentified, export_labels
from worker.metrics_verb import metrics
from worker.model_verbs import model
from worker.prune_verb import prune
from worker.shell import as_json, asked_by, by

if TYPE_CHECKING:
    from worker.home import Home


class Exit(IntEnum):
    """Exit codes of every verb."""

    OK = 0
    NOT_WELL = 1  #: reconcile or check found something, or the program is misconfigured
    INCOMPLETE = 2  #: a study failed or still waits
    QUARANTINED = 3  #: with --strict: a file could not be read
    USAGE = 64  #: the command line itself is wrong
    INTERRUPTED = 130


#: How many rows a terminal gets after `worker screen`.
SCREENFUL = 40

study = click.argument("study", metavar="STUDY", callback=shell.as_spelled)
inbox = click.argument("inbox", metavar="INBOX", type=click.Path(exists=True, file_okay=False, path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chest-screening")
def app() -> None:
    """Screens chest radiographs for pneumonia and orders the worklist. Research use only; not a medical device.

    STUDY is a Study Instance UID or the end of one, an accession number, or the name of a file as it was dropped.
    """


@app.group()
def db() -> None:
    """The database of the ledger."""


for verb in (model, audit, batch, drift, export_deidentified, export_labels, metrics, prune):
    app.add_command(verb)


def existing(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Path, ...]:
    """The paths, each there. An empty one (an unset variable) would mean the whole current folder."""
    for value in values:
        if not value or not os.path.lexists(value):
            raise click.BadParameter(f"no such file or folder: {value!r}")
    return tuple(Path(value) for value in values)


@app.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, callback=existing)
@click.option("--strict", is_flag=True, help="Exit 3 when a file was quarantined.")
@as_json
def screen(paths: tuple[Path, ...], strict: bool, as_json: bool) -> None:
    """Take in files and folders, screen them through the queue, wait, and print the worklist."""
    from worker import home

    with home.settled(shell.settings(), "screen", with_worker=True) as house:
        _screen(house, paths, strict, as_json)


def _screen(house: "Home", paths: tuple[Path, ...], strict: bool, as_json: bool) -> None:
    from worker import service, worklist
    from worker.progress import bars

    with service.serving(house) as serving:
        with bars() as progress:
            batch = service.screen(serving, list(paths), progress)
        shell.looked(serving.intake.database, by="")
        entries = worklist.entries(serving.intake.database, serving.intake.store, None if as_json else SCREENFUL)
        unread = worklist.count(serving.intake.database)
        if as_json:  # before the house closes, which takes seconds
            shell.print_json([entry.to_json() for entry in entries])
        else:
            from worker.console import console, print_batch, print_worklist

            print_worklist(entries, unread)
            console.print(f"state folder: {serving.settings.home}")
            print_batch(batch)
        sys.stdout.flush()
    for folder in batch.unlisted:
        sys.stderr.write(f"worker: {folder}: this folder cannot be listed; its files were not seen\n")
    if not batch.is_complete:
        sys.exit(Exit.INCOMPLETE)
    if strict and batch.files.get(FileState.QUARANTINED):
        sys.exit(Exit.QUARANTINED)


@app.command()
@inbox
def watch(inbox: Path) -> None:
    """Watch a folder and enqueue what arrives, until interrupted. Queue workers run elsewhere."""
    _serve("watch", inbox, with_worker=False)


@app.command()
@inbox
def run(inbox: Path) -> None:
    """Watch a folder and screen what arrives, until interrupted; SIGTERM finishes what is in work."""
    _serve("run", inbox, with_worker=True)


@app.command()
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="Rows to print.")
@asked_by
@as_json
def worklist(limit: int, by: str, as_json: bool) -> None:
    """Print the unread studies, the first to read on top."""
    from worker import worklist as room
    from worker.ledger.opening import now

    database, store = shell.ledger()
    shell.looked(database, by)
    if room.is_stale(database, now()):  # no sweep may be running
        from worker.ledger.delivery import advance

        advance(database, now())
    entries = room.entries(database, store, limit)
    if as_json:
        shell.print_json([entry.to_json() for entry in entries])
        return
    from worker.console import print_worklist

    print_worklist(entries, room.count(database))


@app.command()
@study
@asked_by
@as_json
def show(study: str, by: str, as_json: bool) -> None:
    """Print everything kept of one study."""
    from worker import worklist as room

    database, store = shell.ledger()
    uid = shell.study_uid(database, study)
    shell.looked(database, by, uid)
    kept = room.show(database, store, uid)
    if as_json:
        shell.print_json(kept)
        return
    from worker.console import print_study

    print_study(kept)


@app.command()
@asked_by
@as_json
def quarantine(by: str, as_json: bool) -> None:
    """Print the files that could not be read, and why. Their bytes are kept in the store."""
    from worker import worklist as room

    database, _ = shell.ledger()
    shell.looked(database, by)
    files = room.quarantine(database)
    if as_json:
        shell.print_json([file.to_json() for file in files])
        return
    from worker.console import print_quarantine

    print_quarantine(files)


@app.command()
@study
@asked_by
def requeue(study: str, by: str) -> None:
    """Have a failed or screened study screened afresh."""
    from worker.ledger import people
    from worker.ledger.opening import now

    settings, database = shell.settings(), shell.ledger()[0]
    uid = people.requeue(database, shell.study_uid(database, study), settings, now(), by)
    click.echo(f"{uid} waits to be screened again: by a running `worker run`, or by the next `worker screen`")


@app.command()
@study
@click.argument("priority", type=click.Choice([str(p) for p in (Priority.STAT, Priority.ROUTINE)]))
@by
def prioritise(study: str, priority: str, by: str) -> None:
    """Give a study a priority in a person's name."""
    from worker.ledger import people
    from worker.ledger.opening import now

    database = shell.ledger()[0]
    people.prioritise(database, shell.study_uid(database, study), Priority(priority), by, now())
    click.echo(f"{study} is {priority}")


@app.command()
@study
@click.option("--verdict", required=True, type=click.Choice([str(o) for o in ReviewOutcome]), help="What was found.")
@click.option("--reader", required=True, metavar="NAME", callback=shell.named, help="Who read it.")
@click.option("--comment", callback=shell.worded, help="In the reader's words.")
def review(study: str, verdict: str, reader: str, comment: str | None) -> None:
    """Keep a reader's verdict and take the study off the list. Reviews are never edited; the newest one counts."""
    from worker.ledger import people
    from worker.ledger.opening import now

    database = shell.ledger()[0]
    people.review(database, shell.study_uid(database, study), ReviewOutcome(verdict), reader, comment, now())
    click.echo(f"{study}: {verdict}, read by {reader}")


@app.command()
@as_json
def reconcile(as_json: bool) -> None:
    """Prove that every file and every study is accounted for; exit 1 when one is not."""
    from worker import reconciliation

    database, store = shell.ledger()
    account = reconciliation.reconcile(database, store)
    if as_json:
        shell.print_json(account.to_json())
    else:
        from worker.console import print_account

        print_account(account)
    sys.exit(Exit.OK if account.holds else Exit.NOT_WELL)


@app.command()
@as_json
def check(as_json: bool) -> None:
    """Look at database, broker, model, provider, decoder, store, disk and the longest wait: one line each.

    Exit 1, with the remedy, when something is not well.
    """
    from worker import checkup

    results = checkup.check(shell.settings())
    if as_json:
        shell.print_json([vars(result) for result in results])
    else:
        for result in results:
            click.echo(f"{'ok  ' if result.is_well else 'FAIL'}  {result.what:9} {result.message}")
    sys.exit(Exit.OK if all(result.is_well for result in results) else Exit.NOT_WELL)


@app.command()
@as_json
def settings(as_json: bool) -> None:
    """Print every setting in force and where its value came from."""
    from worker import settings as room

    rows = room.load_with_origins()
    if as_json:
        shell.print_json([{"name": n, "value": str(v), "origin": o, "meaning": m} for n, v, o, m in rows])
        return
    from worker.console import print_table

    print_table(
        "Settings",
        ("environment", "value", "from", "meaning"),
        ((f"{room.ENV_PREFIX}{name.upper()}", value, origin, meaning) for name, value, origin, meaning in rows),
    )


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the database to the newest migration."""
    from schema.database import HEAD
    from worker.ledger.opening import upgrade

    upgrade(shell.settings())
    click.echo(f"the database is at migration {HEAD}")


def main() -> None:
    """Run the program; faults that the house knows become one line and an exit code."""
    os.umask(0o077)  # database and logs hold patients
    try:
        app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.USAGE)
    except Misconfigured as error:
        _complain(error, Exit.NOT_WELL)
    except Interrupted as error:
        _complain(error, Exit.INCOMPLETE)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted: what was taken in is kept; the same command goes on where it was\n")
        sys.exit(Exit.INTERRUPTED)


def _complain(error: ScreeningError, code: Exit) -> None:
    sys.stderr.write(f"worker: {error} [{error.code}]\n")
    sys.exit(code)


def _serve(role: str, inbox: Path, *, with_worker: bool) -> None:
    from worker import home, logs

    in_force = shell.settings()
    logs.configure(in_force.log_level)
    with home.settled(in_force, role, with_worker=with_worker) as house:
        from worker import service

        with service.serving(house) as serving:
            click.echo(f"watching {inbox.absolute()}, state in {in_force.home}; Ctrl-C or SIGTERM stops", err=True)
            service.watch(serving, inbox.absolute())
