"""The verbs that print from the ledger: worklist, show, quarantine."""

import click

from worker.cli import options
from worker.cli.options import as_json, asked_by, study


@click.command()
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="Rows to print.")
@asked_by
@as_json
def worklist(limit: int, by: str, as_json: bool) -> None:
    """Print the unread studies, the first to read on top."""
    from worker.ledger.connect import now
    from worker.worklist import queries

    database, store = options.ledger()
    options.record_view(database, by)
    if queries.is_stale(database, now()):  # no sweep may be running
        from worker.ledger.claims import advance

        advance(database, now())
    entries = queries.entries(database, store, limit)
    if as_json:
        options.print_json([entry.to_json() for entry in entries])
        return
    from worker.cli.tables import print_worklist

    print_worklist(entries, queries.count(database))


@click.command()
@study
@asked_by
@as_json
def show(study: str, by: str, as_json: bool) -> None:
    """Print all data of one study."""
    from worker.worklist import queries

    database, store = options.ledger()
    uid = options.study_uid(database, study)
    options.record_view(database, by, uid)
    kept = queries.show(database, store, uid)
    if as_json:
        options.print_json(kept)
        return
    from worker.cli.tables import print_study

    print_study(kept)


@click.command()
@asked_by
@as_json
def quarantine(by: str, as_json: bool) -> None:
    """Print the files that could not be read, and why. The store keeps their bytes."""
    from worker.worklist import queries

    database, _ = options.ledger()
    options.record_view(database, by)
    files = queries.quarantine(database)
    if as_json:
        options.print_json([file.to_json() for file in files])
        return
    from worker.cli.tables import print_quarantine

    print_quarantine(files)
