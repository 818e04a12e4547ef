"""The verb `worker audit`."""

from dataclasses import asdict
from datetime import datetime

import click

from worker import shell
from worker.shell import as_json


@click.command()
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="This day (UTC) and later.")
@click.option("--study", metavar="STUDY", callback=shell.as_spelled, help="What was done with one study.")
@as_json
def audit(since: datetime | None, study: str | None, as_json: bool) -> None:
    """Print who did what: looks, verdicts, priorities, requeues, exports, prunings, decisions about models."""
    from worker.ledger import audits

    database, _ = shell.ledger()
    uid = None if study is None else shell.study_uid(database, study)
    entries = audits.trail(database, shell.start_of(since), uid)
    if as_json:
        shell.print_json([asdict(entry) | {"happened_at": entry.happened_at.isoformat()} for entry in entries])
        return
    from worker.console import print_table

    print_table(
        "Audit",
        ("when (UTC)", "who", "account", "deed", "study", "subject", "detail"),
        ((f"{e.happened_at:%Y-%m-%d %H:%M:%S}", *list(asdict(e).values())[1:]) for e in entries),
    )
