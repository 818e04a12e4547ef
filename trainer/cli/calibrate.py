"""The verb `trainer calibrate`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.cli.console import new_table, print_table
from trainer.cli.labelled import LabelledImages, labelled_images
from trainer.cli.options import FILE, as_json, print_left_out

if TYPE_CHECKING:
    from trainer.evaluation.reference_distance import Distance
    from trainer.export.site_calibration import Calibrated

#: The rule where none is named.
DEFAULT = "target-specificity=0.85"

RULE_HELP = (
    "target-specificity=0.85 or target-sensitivity=0.95 (both with 95 % assurance), or a rule of `trainer fit`:"
    " sensitivity=0.985, specificity=0.9, youden, fixed=0.5, cost=10."
)


@click.command()
@click.argument("model", type=FILE)
@labelled_images
@click.option("--rule", metavar="NAME[=NUMBER]", default=DEFAULT, show_default=True, help=RULE_HELP)
@click.option("--place", metavar="TEXT", help="Where the images are from, for the card. Default: the name of DATA.")
@click.option(
    "--accept-lower-sensitivity", is_flag=True, help="Write the model although its sensitivity is below 0.95."
)
@click.option(
    "--unlabelled", is_flag=True, help="Without labels: only print how far the images are from the reference."
)
@click.option("--picture", type=FILE, help="Draw the trade-off to this SVG file.")
@click.option("--out", type=FILE, help="The new model file.")
@as_json
def calibrate(
    model: Path,
    images: LabelledImages,
    rule: str,
    place: str | None,
    accept_lower_sensitivity: bool,
    unlabelled: bool,
    picture: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Set a model's threshold and calibration from labelled images of a site; its weights stay the same.

    At least 100 patients without and 59 with pneumonia are advised, one after the other as they came, none of them
    left out. Without labels no model is written.
    """
    if unlabelled:
        if out or picture:
            raise click.UsageError("--unlabelled writes no model and no picture: leave --out and --picture away")
        _measure_distance(model, images, as_json)
        return
    if out is None:
        raise click.UsageError("name the new model file with --out, or give --unlabelled")
    from trainer.export.site_calibration import Site, calibrate_for
    from trainer.progress import reporting
    from trainer.statistics.operating_point import read_rule

    site = Site(place or images.data.resolve().name, read_rule(rule), accept_lower_sensitivity)
    samples = images.samples()
    with reporting(out=sys.stderr) as report:
        made = calibrate_for(model, images.provider, images.data, samples, site, out, report)
    if picture:
        from trainer.report.trade_off import draw_trade_off

        picture.write_bytes(draw_trade_off(made))
    if as_json:
        click.echo(json.dumps(made.to_json(), indent=1))
    else:
        _show(made, out)


def _measure_distance(model: Path, images: LabelledImages, as_json: bool) -> None:
    from trainer.evaluation.reference_distance import distance
    from trainer.export.reference import measure
    from trainer.progress import reporting
    from worker.inference.model import open_model

    unreadable: list[dict[str, str]] = []
    opened, samples = open_model(model, images.provider), images.without_labels()
    with reporting(out=sys.stderr) as report:
        _, values = measure(opened, images.data, samples, unreadable, report)
    found = distance(opened.card, values)
    print_left_out(unreadable)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        _show_distance(found)


def _show(made: "Calibrated", out: Path) -> None:
    """The trade-off, the remarks, and the new file."""
    site = made.site
    table = new_table("threshold", "", "found", "normals left alone", title=f"{made.model}, images of {site.place}")
    for choice in made.choices:
        found, alone = f"{choice.found} of {choice.positives}", f"{choice.left_alone} of {choice.normals}"
        table.add_row(f"{choice.threshold:.4f}", choice.name, found, alone)
    print_table(table)
    print_left_out(made.unreadable)
    for remark in site.remarks:
        click.echo(remark)
    for name in ("sensitivity", "specificity"):
        now, factory = getattr(site, name), getattr(site, f"factory_{name}")
        click.echo(
            f"{name} {now.value:.3f} [{now.low:.3f}, {now.high:.3f}] on {now.n} images; the factory's point:"
            f" {factory.value:.3f} [{factory.low:.3f}, {factory.high:.3f}]"
        )
    click.echo(
        f"{made.choices[1]}\n{made.rule}\nprobabilities hold at prevalence {made.prevalence:.3f}; familiarity limit"
        f" {made.familiarity_limit:g} (was {made.factory_familiarity_limit})\n{out} {made.model_digest}"
    )


def _show_distance(found: "Distance") -> None:
    table = new_table(
        "measure", "mean", "expected", "PSI above chance", "limit", "", title=f"{found.images} images and {found.model}"
    )
    for name, shift in found.compared.shifts.items():
        mean, expected = found.compared.means[name]
        judged = ["" if value != value else f"{value:.3f}" for value in (shift.excess, shift.limit)]
        table.add_row(name, f"{mean:.3f}", f"{expected:.3f}", *judged, shift.status.replace("_", " "))
    print_table(table)
    familiar = "" if found.familiar is None else f"; {found.familiar:.1%} within the familiarity limit"
    click.echo(
        f"{found.flag_rate:.1%} flagged, of the reference {found.reference_flag_rate:.1%}{familiar}\n"
        "no model was written: a point needs labels"
    )
