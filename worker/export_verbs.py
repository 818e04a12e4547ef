"""The verbs that take data out of the house: export-labels, export-deidentified. Neither takes a name along."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from worker import shell

#: Before any review.
EARLIEST = datetime(2000, 1, 1)

folder = click.Path(file_okay=False, path_type=Path)


@click.command("export-labels")
@click.argument("out", metavar="OUT_DIR", type=folder)
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Reviews of this day (UTC) and later.")
@shell.asked_by
def export_labels(out: Path, since: datetime | None, by: str) -> None:
    """Write readers' verdicts and the images they saw as a data set for `trainer fit`, without names."""
    from worker import labels

    start = (since or EARLIEST).replace(tzinfo=UTC)
    exported = labels.export(*shell.ledger(), out, start, _limits(), by)
    left_out = "; ".join(f"{n} {why}" for why, n in sorted(exported.left_out.items()))
    click.echo(f"{exported.images} images of {exported.studies} studies in {out}; left out: {left_out or 'none'}")


def _limits() -> Any:
    from worker.imaging.limits import Limits

    return Limits(max_pixel_bytes=shell.settings().max_pixel_mib * 2**20)
