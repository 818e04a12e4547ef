"""The verb `worker screen`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from schema.vocabulary import FileState
from worker.cli import options
from worker.cli.exit_codes import Exit
from worker.cli.options import as_json, existing

if TYPE_CHECKING:
    from worker.runtime.home import Home

#: Rows of the worklist that `worker screen` prints.
ROWS_PRINTED = 40

UNPACK = "unpack them, and screen what is in them; nothing in them was looked at"


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, callback=existing)
@click.option(
    "--wait",
    "wait_s",
    default=60.0,
    show_default=True,
    type=options.Seconds(0, 10_000_000),
    metavar="SECONDS",
    help="How long to wait for a broker or database that is not available; then exit 2.",
)
@click.option("--strict", is_flag=True, help="Exit 3 when a file was quarantined.")
@as_json
def screen(paths: tuple[Path, ...], wait_s: float, strict: bool, as_json: bool) -> None:
    """Take in files and folders, screen them through the queue, wait, and print the worklist.

    The files are not changed. Exit 0: every study has a verdict. Exit 2: a study failed or still waits.
    """
    from worker.runtime import home

    if not as_json:
        options.print_in_use()
    settings = options.settings()
    silence_s = min(settings.database_silence_s, max(wait_s, 1.0))
    with home.hold_home(
        attrs.evolve(settings, database_silence_s=silence_s), "screen", with_worker=True
    ) as installation:
        _screen(installation, paths, wait_s, strict, as_json)


def _screen(installation: "Home", paths: tuple[Path, ...], wait_s: float, strict: bool, as_json: bool) -> None:
    from worker.cli.progress import bars
    from worker.service.outage_wait import OutageWait
    from worker.service.screen_paths import screen_paths
    from worker.service.service import running_service
    from worker.worklist import unread_list

    outage_wait = OutageWait(wait_s, lambda words: click.echo(f"worker: {words}", err=True))
    with outage_wait.telling(), running_service(installation, outage_wait) as service:
        with bars() as progress:
            screened = screen_paths(service, list(paths), progress)
        options.record_view(service.intake.database, by="")
        entries = unread_list.entries(service.intake.database, service.intake.store, None if as_json else ROWS_PRINTED)
        unread = unread_list.count(service.intake.database)
        if as_json:  # before the services stop, which takes seconds
            options.print_json([entry.to_json() for entry in entries])
        else:
            from worker.cli.tables import console, print_screened
            from worker.cli.worklist_table import print_worklist

            print_worklist(entries, unread, shows_identifiers=options.shows_identifiers())
            console.print(f"state folder: {service.settings.home}")
            print_screened(screened)
        sys.stdout.flush()
    if screened.archives:
        sys.stderr.write(f"worker: {screened.archives} of these files are archives, such as ZIP: {UNPACK}\n")
    if screened.files and not screened.study_uids:
        sys.stderr.write("worker: none of these files is an image of a study: nothing was screened\n")
    for folder in screened.unlisted:
        sys.stderr.write(f"worker: {folder}: this folder cannot be listed; its files were not taken in\n")
    if not screened.is_complete:
        sys.exit(Exit.INCOMPLETE)
    if strict and screened.files.get(FileState.QUARANTINED):
        sys.exit(Exit.QUARANTINED)
