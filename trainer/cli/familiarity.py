"""The verb `trainer familiarity`."""

import json
import sys
from pathlib import Path

import click

from trainer.cli.labelled import labelled_images, samples_of
from trainer.cli.options import FILE, as_json

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("model", type=FILE)
@labelled_images
@click.option("--strangers", type=FOLDER, help="Folder with one folder for each kind of other pictures: hip, hand, ...")
@click.option("--count", default=100, show_default=True, type=click.IntRange(min=1), help="Generated, of each kind.")
@as_json
def familiarity(
    model: Path,
    data: Path,
    index: Path | None,
    split_manifest: Path | None,
    split: str,
    provider: str,
    strangers: Path | None,
    count: int,
    as_json: bool,
) -> None:
    """Ask what a model's familiarity limit keeps out: held-out images, changed ones, generated and given strangers."""
    from trainer.cli.tables import show_unfamiliar
    from trainer.evaluation.out_of_distribution import unfamiliar_file
    from trainer.progress import reporting

    samples = samples_of(data, index, split_manifest, split)
    with reporting(out=sys.stderr) as report:
        found = unfamiliar_file(model, provider, data, samples, strangers, report, count)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        show_unfamiliar(found)
