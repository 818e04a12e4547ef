"""The verb `trainer manifest`."""

from collections import Counter
from pathlib import Path

import click

from trainer.cli.options import FILE


@click.command()
@click.argument("name", metavar="rsna|nih", type=click.Choice(["rsna", "nih"]))
@click.argument("folder", metavar="DIR", type=FILE)
@click.option("--out", type=FILE, help="The index. Default: index.csv in DIR, where every verb finds it.")
def manifest(name: str, folder: Path, out: Path | None) -> None:
    """Write an index of a published data set from its own tables: labels, patients, views, ages, splits and boxes.

    rsna: RSNA Pneumonia Detection Challenge 2018; nih: NIH ChestX-ray14. DIR holds the tables and the images, as they
    were published. Read the set's terms before you train with it, or share a model that was.
    """
    from trainer.data.public_data_sets import SETS, write_index

    found = SETS[name](folder)
    index = out or folder / "index.csv"
    boxes = write_index(found, index)
    labels = Counter(row["subtype"] or row["label"] for row in found.rows)
    patients = len({row["patient"] for row in found.rows})
    left_out = "; ".join(f"{n} {why}" for why, n in found.left_out.items()) or "none"
    click.echo(
        f"{len(found.rows)} images of {patients} patients in {index}: "
        f"{', '.join(f'{n} {label}' for label, n in sorted(labels.items()))}; left out: {left_out}"
    )
    if boxes is not None:
        click.echo(f"{len(found.boxes)} boxes in {boxes}")
