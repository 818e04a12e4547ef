"""The verb `trainer familiarity`."""

import json
import sys
from pathlib import Path

import click

from trainer.cli.labelled import LabelledImages, labelled_images
from trainer.cli.options import FILE, as_json

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("model", type=FILE)
@labelled_images
@click.option("--strangers", type=FOLDER, help="Folder with a folder for each kind of other pictures: hip, hand, ...")
@click.option(
    "--count",
    default=100,
    show_default=True,
    type=click.IntRange(min=1),
    help="Pictures of each kind.",
)
@as_json
def familiarity(
    model: Path,
    images: LabelledImages,
    strangers: Path | None,
    count: int,
    as_json: bool,
) -> None:
    """Measure which images are outside the familiarity limit: held-out, changed, generated and other pictures."""
    from trainer.cli.tables import show_familiarity
    from trainer.evaluation.model_file import open_on_all_cores
    from trainer.evaluation.out_of_distribution import measure_familiarity
    from trainer.progress import reporting

    samples = images.samples()
    with reporting(out=sys.stderr) as report:
        opened = open_on_all_cores(model, images.provider)
        found = measure_familiarity(opened, images.data, samples, strangers, report, count)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        show_familiarity(found)
