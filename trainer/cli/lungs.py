"""The verb `trainer lungs`."""

import json
import sys
from pathlib import Path

import click

from trainer.cli.options import FILE, SEED, as_json, data, index, load_keras, patient_each


@click.command()
@data
@click.option("--masks", type=FILE, required=True, help="Folder with one PNG for each image: same path, lungs white.")
@click.option("--out", type=FILE, required=True, help="The weights, a .weights.h5 file.")
@index
@patient_each
@click.option("--leave-out", type=FILE, multiple=True, help="Leave out the patients of this folder or CSV.")
@click.option("--epochs", default=6, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", type=SEED, default=0, help="Seed of split, order, augmentation and initial weights.")
@as_json
def lungs(
    data: Path,
    masks: Path,
    out: Path,
    index: Path | None,
    each_file_a_patient: bool,
    leave_out: tuple[Path, ...],
    epochs: int,
    seed: int,
    as_json: bool,
) -> None:
    """Train the lung-field net from masks that people drew; measured on patients who were not in the training."""
    load_keras()
    from trainer.progress import reporting
    from trainer.run.lung_net_run import train_lungs

    with reporting(out=sys.stderr) as report:
        found = train_lungs(data, masks, index, leave_out, epochs, seed, out, report, each_file_a_patient)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        for name, (mean, lowest, n) in found.dice.items():
            click.echo(f"{name}: {n} images of held-out patients, Dice {mean:.3f}, 5th percentile {lowest:.3f}")
        click.echo(f"{found.trained_on} training images; {out} {found.digest}")
