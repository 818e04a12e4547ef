"""The verb `worker audit`."""

from dataclasses import asdict
from datetime import datetime

import click

from worker.cli import options
from worker.cli.options import as_json


@click.command()
@options.since("Entries of this day (UTC) and later.")
@click.option("--study", metavar="STUDY", callback=options.as_spelled, help="Entries about one study.")
@as_json
def audit(since: datetime | None, study: str | None, as_json: bool) -> None:
    """Print who did what: views, verdicts, priorities, requeues, exports, prunings, decisions about models."""
    from worker.ledger import audit as audits

    database, _ = options.ledger()
    uid = None if study is None else options.study_uid(database, study)
    entries = audits.trail(database, options.start_of(since), uid)
    if as_json:
        options.print_json([asdict(entry) | {"happened_at": entry.happened_at.isoformat()} for entry in entries])
        return
    from worker.cli.tables import print_table
    from worker.web.wording import digest

    print_table(
        "Audit",
        ("when (UTC)", "who", "account", "action", "study", "subject", "detail"),
        (
            (f"{e.happened_at:%Y-%m-%d %H:%M:%S}", e.who, e.account, e.deed, e.study_uid, digest(e.subject), e.detail)
            for e in entries
        ),
    )
