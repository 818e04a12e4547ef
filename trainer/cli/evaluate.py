"""The verbs that measure model files on labelled images: evaluate, compare, shift."""

import json
from pathlib import Path

import click

from trainer.cli.console import new_table, print_table
from trainer.cli.labelled import LabelledImages, labelled_images
from trainer.cli.options import (
    FILE,
    as_json,
)


@click.command()
@click.argument("model", type=FILE)
@labelled_images
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Prevalence for PPV and NPV.",
)
@as_json
def evaluate(
    model: Path,
    images: LabelledImages,
    prevalence: float | None,
    as_json: bool,
) -> None:
    """Measure a model file on labelled images, with the worker's imaging."""
    from trainer.cli.tables import show_evaluation
    from trainer.evaluation.evaluate import evaluate as measure
    from trainer.evaluation.model_file import open_on_all_cores
    from trainer.progress import silent

    samples = images.samples()
    opened = open_on_all_cores(model, images.provider)
    report = measure(opened, images.data, samples, silent, prevalence)
    for doubt in images.doubts(opened.card):
        click.echo(f"warning: {doubt}", err=True)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=1))
    else:
        show_evaluation(report)


@click.command()
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@labelled_images
@click.option("--out", type=FILE, required=True, help="Folder for comparison.json and pictures of changed results.")
@as_json
def compare(
    old: Path,
    new: Path,
    images: LabelledImages,
    out: Path,
    as_json: bool,
) -> None:
    """Compare two model files on the same images: `worker model promote` reads the result."""
    from trainer.evaluation.compare import compare_files, rows_of
    from trainer.progress import silent
    from worker.registry.non_inferiority import judge

    found = compare_files(old, new, images.provider, images.data, images.samples(), out, silent)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    title = f"{found.new.name} against {found.old.name}, {found.n} images of {found.patients} patients"
    table = new_table("", "old", "new", "difference", "95 % interval", "lost", "won", title=title)
    for row in rows_of(found):
        table.add_row(*row)
    print_table(table)
    pictures = sum(flip.picture is not None for flip in found.flips)
    if found.unreadable:
        click.echo(f"{found.unreadable} images cannot be read and are not counted", err=True)
    click.echo(f"{judge(found).says}\nwritten to {out}: comparison.json and {pictures} pictures of changed results")


@click.command()
@click.argument("model", type=FILE)
@labelled_images
@as_json
def shift(
    model: Path,
    images: LabelledImages,
    as_json: bool,
) -> None:
    """Measure a model file on restyled, re-compressed, resampled copies of labelled images."""
    from trainer.cli.tables import show_shift
    from trainer.evaluation.model_file import open_on_all_cores
    from trainer.evaluation.shift import shift as measure
    from trainer.progress import silent

    samples = images.samples()
    found = measure(open_on_all_cores(model, images.provider), images.data, samples, silent)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        show_shift(found)
