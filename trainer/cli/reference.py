"""The verb `trainer reference`."""

import sys
from pathlib import Path

import click

from trainer.cli.labelled import LabelledImages, labelled_images
from trainer.cli.options import FILE, print_left_out


@click.command()
@click.argument("model", type=FILE)
@labelled_images
@click.option(
    "--unlabelled", is_flag=True, help="Use no labels: every image below DATA, or those of --index or --split."
)
@click.option("--out", type=FILE, required=True, help="The completed model file; may be MODEL itself.")
def reference(
    model: Path,
    images: LabelledImages,
    unlabelled: bool,
    out: Path,
) -> None:
    """Measure the reference for drift, and write the model with this reference on its card.

    Give images that the model was not trained on: its validation images, or usual images of the hospital that uses it.
    """
    from trainer.export.reference import complete, measure_reference
    from trainer.progress import reporting
    from worker.inference.model import open_model

    samples = images.without_labels() if unlabelled else images.samples()
    with reporting(out=sys.stderr) as report:
        made = measure_reference(open_model(model, images.provider), images.data, samples, not unlabelled, report)
    completed = complete(model, made, out)
    print_left_out(made.unreadable)
    click.echo(f"{made.reference.summary}\n{out} {completed.digest}")
