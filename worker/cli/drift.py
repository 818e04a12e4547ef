"""The verb `worker drift`."""

from datetime import UTC, datetime

import click

from worker.cli import options
from worker.cli.options import as_json


@click.command()
@options.since("All images of this day (UTC) and later.")
@as_json
def drift(since: datetime | None, as_json: bool) -> None:
    """Compare the images of each scanner, and their predictions, with the reference on the model's card.

    Without --since: the newest 500 images of the last 28 days, as in the nightly evaluation. Stores nothing.
    """
    from worker.ledger.clocks import now
    from worker.monitoring.drift.evaluate import read

    found = read(options.ledger()[0], now(), since and since.replace(tzinfo=UTC))
    if as_json:
        options.print_json([one.to_json() for one in found])
        return
    from worker.cli.tables import print_table
    from worker.monitoring.drift.table import COLUMNS, NARROW, NOTE, cells

    rows = [[cell.text for cell in cells(one)[:NARROW]] for one in found]
    print_table("Drift, by scanner and view", COLUMNS[:NARROW], rows)
    click.echo(NOTE)
