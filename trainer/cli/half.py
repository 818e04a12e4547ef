"""The verb `trainer half`."""

import json
import sys
from pathlib import Path

import click

from trainer.cli.conversion import show_conversion
from trainer.cli.labelled import provider
from trainer.cli.options import FILE, as_json, data, threshold_rule


@click.command()
@click.argument("model", type=FILE)
@data
@click.option("--split-manifest", type=FILE, required=True, help="The split.csv of the model's run.")
@provider
@threshold_rule
@click.option("--out", type=FILE, required=True, help="The new model file.")
@as_json
def half(
    model: Path,
    data: Path,
    split_manifest: Path,
    provider: str,
    threshold_rule: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Convert a model to float16, for GPUs: a new file, measured on the provider that will run it.

    Give the images and the split of the model: its threshold is chosen again on the validation images, and the card
    states the results on the test images.
    """
    from trainer.data.manifest import read_manifest
    from trainer.export.float16 import convert
    from trainer.progress import reporting
    from trainer.statistics.operating_point import read_rule

    rule = read_rule(threshold_rule) if threshold_rule else None
    with reporting(out=sys.stderr) as report:
        made = convert(model, provider, data, read_manifest(split_manifest), rule, out, report)
    if as_json:
        click.echo(json.dumps(made.to_json(), indent=1))
    else:
        show_conversion(made, out)
