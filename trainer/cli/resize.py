"""The verb `trainer resize`."""

import json
import sys
from pathlib import Path

import click

from trainer.cli.conversion import show_conversion, show_metrics
from trainer.cli.labelled import provider
from trainer.cli.options import FILE, as_json, data, patient_each, threshold_rule


@click.command()
@click.argument("model", type=FILE)
@click.option("--to", required=True, help="The new resize rule: pyramid53, linear, area, ...")
@data
@click.option("--split-manifest", type=FILE, required=True, help="The split.csv of the model's run.")
@click.option("--elsewhere", type=FILE, help="Images of another place, on which the threshold must hold too.")
@click.option("--elsewhere-index", type=FILE, help="CSV with path, label, patient: which of those to take.")
@click.option("--elsewhere-rule", metavar="NAME[=NUMBER]", help="Rule of the threshold there. Default: the card's.")
@patient_each
@provider
@threshold_rule
@click.option("--out", type=FILE, required=True, help="The new model file.")
@as_json
def resize(
    model: Path,
    to: str,
    data: Path,
    split_manifest: Path,
    elsewhere: Path | None,
    elsewhere_index: Path | None,
    elsewhere_rule: str | None,
    each_file_a_patient: bool,
    provider: str,
    threshold_rule: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Give a model another resize rule: a new file with the same weights, measured again.

    Give the images and the split of the model, and its images of elsewhere if its threshold was chosen with some:
    calibration, threshold, limits, reference and goldens are made anew, and the metrics of both cards are compared.
    """
    from trainer.data.folders import read_samples
    from trainer.data.manifest import read_manifest
    from trainer.export import resized
    from trainer.progress import reporting
    from trainer.statistics.operating_point import read_rule
    from worker.imaging.preprocess import resize_named

    if elsewhere is None and (elsewhere_index or elsewhere_rule):
        raise click.UsageError("--elsewhere-index and --elsewhere-rule are of --elsewhere: give that too")
    rule = read_rule(threshold_rule) if threshold_rule else None
    there = read_rule(elsewhere_rule) if elsewhere_rule else None
    other = None
    if elsewhere is not None:
        other = resized.OtherPlace(elsewhere, read_samples(elsewhere, elsewhere_index, each_file_a_patient), there)
    manifest, wanted = read_manifest(split_manifest), resize_named(to)
    with reporting(out=sys.stderr) as report:
        made = resized.resize(model, wanted, provider, data, manifest, rule, other, out, report)
    if as_json:
        click.echo(json.dumps(made.to_json(), indent=1))
    else:
        show_metrics(made)
        show_conversion(made, out)
