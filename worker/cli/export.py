"""The verbs that export data without names: export-labels, export-deidentified."""

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from worker.cli import options
from worker.cli.exit_codes import Exit

folder = click.Path(file_okay=False, path_type=Path)


@click.command("export-labels")
@click.argument("out", metavar="OUT_DIR", type=folder)
@options.since("Reviews of this day (UTC) and later.")
@click.option("--unseen", is_flag=True, help="Only verdicts given before the reader knew what the model said.")
@options.asked_by
def export_labels(out: Path, since: datetime | None, unseen: bool, by: str) -> None:
    """Write readers' verdicts and their images as a data set for `trainer fit`, without names."""
    from worker.export import labels

    exported = labels.export(*options.ledger(), out, options.start_of(since), _limits(), by, is_unseen=unseen)
    _print_exported(f"{exported.images} images of {exported.studies} studies", out, exported.left_out)


@click.command("export-deidentified")
@click.argument("studies", metavar="STUDY...", nargs=-1, required=True)
@click.option("--out", required=True, metavar="DIR", type=folder, help="A new folder.")
@options.asked_by
def export_deidentified(studies: tuple[str, ...], out: Path, by: str) -> None:
    """Write studies as de-identified DICOM objects (PS3.15 Annex E, Basic Profile).

    Pixels are not changed: check each picture before you pass it on, because names may be burned into it. Exit 1: no
    image could be written.
    """
    from worker.export import studies as deidentification

    database, store = options.ledger()
    uids = [options.study_uid(database, options.spelled(study)) for study in studies]
    exported = deidentification.export(database, store, uids, out, _limits(), by)
    _print_exported(f"{exported.objects} objects of {len(exported.studies)} studies", out, exported.left_out)
    click.echo("check each picture before you pass it on: text that is burned into the pixels is still there", err=True)
    if not exported.objects:
        raise SystemExit(Exit.NOT_WELL)


def _print_exported(what: str, out: Path, left_out: Counter[str]) -> None:
    why = "; ".join(f"{n} {reason}" for reason, n in sorted(left_out.items()))
    click.echo(f"{what} in {out}; left out: {why or 'none'}")


def _limits() -> Any:
    from worker.imaging.limits import Limits

    return Limits(max_pixel_bytes=options.settings().max_pixel_bytes)
