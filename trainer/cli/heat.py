"""The verb `trainer heat`."""

import json
import sys
from pathlib import Path

import click

from trainer.cli.labelled import LabelledImages, labelled_images
from trainer.cli.options import FILE, as_json
from trainer.statistics.deletion import REFERENCES

REFERENCE_HELP = "Take pixels from the most similar normal image that the model does not flag, or from a blurred copy."


@click.command()
@click.argument("model", type=FILE)
@labelled_images
@click.option("--limit", type=click.IntRange(min=1), help="Draw this number of the positive images.")
@click.option(
    "--reference", type=click.Choice(list(REFERENCES)), default="normal", show_default=True, help=REFERENCE_HELP
)
@as_json
def heat(
    model: Path,
    images: LabelledImages,
    limit: int | None,
    reference: str,
    as_json: bool,
) -> None:
    """Measure whether heat maps show the pixels that decide: deletion and insertion on positive images."""
    from trainer.cli.tables import show_heat
    from trainer.evaluation.heatmap_faithfulness import measure_faithfulness
    from trainer.evaluation.model_file import open_on_all_cores
    from trainer.progress import reporting

    samples = images.samples()
    with reporting(out=sys.stderr) as report:
        opened = open_on_all_cores(model, images.provider)
        found = measure_faithfulness(opened, images.data, samples, report, reference, limit)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        show_heat(found)
