"""The verbs `trainer fit` and `trainer recipes`."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.cli.options import (
    FILE,
    SEED,
    as_json,
    command_line,
    load_keras,
    patient_each,
    threshold_rule,
)
from worker.errors import BadSetting
from worker.inference.card import NO_AGES, Population

if TYPE_CHECKING:
    from trainer.recipes.recipe import Precision, Recipe
    from trainer.run.run import FitOptions
    from trainer.training.warm_start import PreviousRun


@click.command()
@click.option("--data", type=FILE, required=True, multiple=True, help="Folder with the images; may be repeated.")
@click.option("--recipe", required=True, help="See `trainer recipes`.")
@click.option("--out", type=FILE, required=True, help="Run folder: split, checkpoint, log, model.")
@click.option("--index", type=FILE, multiple=True, help="CSV as for `evaluate`; the n-th belongs to the n-th --data.")
@click.option("--elsewhere", type=FILE, help="Images of another place, on which the threshold must hold too.")
@click.option(
    "--elsewhere-rule", metavar="NAME[=NUMBER]", help="Rule of the threshold there. Default: --threshold-rule."
)
@click.option("--elsewhere-index", type=FILE, help="CSV with path, label, patient: which of those to take.")
@click.option("--backbone", help="Instead of the recipe's own: mobilenetv2, if the recipe allows it.")
@click.option("--resize", help="Resize rule instead of the recipe's own: pyramid53, linear, area, ...")
@click.option("--weights", type=FILE, help="Weights of the backbone, or `random`. Default: Keras's, downloaded.")
@click.option("--from", "previous", type=FILE, help="Run folder whose weights this fit starts from.")
@click.option("--leave-out", type=FILE, multiple=True, help="Leave out the patients of this folder or CSV.")
@click.option("--average", type=click.IntRange(min=1), help="Take the mean of the weights along the last N epochs.")
@click.option(
    "--teacher", type=FILE, multiple=True, help="Model file that gives a part of each label; may be repeated."
)
@click.option("--seed", type=SEED, default=0, help="Seed of split, order, augmentation and initial weights.")
@click.option("--split-seed", type=int, help="Seed of the split alone: several seeds on one split.")
@click.option("--epochs", metavar="N[,N...]", help="Epochs of all phases together, or of each phase.")
@click.option(
    "--precision", type=click.Choice(("float32", "mixed_bfloat16")), default="float32",
    help="Precision of the training; the file is float32. mixed_bfloat16 is faster on processors with AVX512_BF16 or "
    "AMX, for recipes without depthwise convolutions.",
)  # fmt: skip
@threshold_rule
@click.option("--limit", type=click.IntRange(min=2), help="Use about this number of images.")
@click.option("--folds", type=click.IntRange(min=2), help="Train one model for each fold; out-of-fold predictions.")
@click.option("--resplit", is_flag=True, help="Make a new split, also where folders or the index state one.")
@patient_each
@click.option("--attribution", default="", help="Source of the images that the model contains as goldens.")
@click.option("--population", help="Population of the images, for the card. Default: as in the run of --from.")
@click.option(
    "--ages", nargs=2, type=int, metavar="MIN MAX",
    help="Ages in completed years; others get no negative verdict. Default: as in the run of --from.",
)  # fmt: skip
@click.option("--no-report", is_flag=True, help="Write no report.html and report.json.")
def fit(
    data: tuple[Path, ...],
    recipe: str,
    out: Path,
    index: tuple[Path, ...],
    elsewhere: Path | None,
    elsewhere_rule: str | None,
    elsewhere_index: Path | None,
    backbone: str | None,
    resize: str | None,
    weights: Path | None,
    previous: Path | None,
    leave_out: tuple[Path, ...],
    average: int | None,
    teacher: tuple[Path, ...],
    seed: int,
    split_seed: int | None,
    epochs: str | None,
    precision: "Precision",
    threshold_rule: str | None,
    limit: int | None,
    folds: int | None,
    resplit: bool,
    each_file_a_patient: bool,
    attribution: str,
    population: str | None,
    ages: tuple[int, int] | None,
    no_report: bool,
) -> None:
    """Train a recipe on labelled images and write one model file."""
    from trainer.recipes.backbone import RANDOM
    from trainer.statistics.operating_point import read_rule
    from trainer.training.warm_start import read_previous

    if not elsewhere and (elsewhere_index or elsewhere_rule):
        raise click.UsageError("--elsewhere-index and --elsewhere-rule are of --elsewhere: give that too")
    if previous and weights:
        raise click.UsageError("--from gives the weights: leave --weights away")
    earlier = read_previous(previous) if previous else None
    chosen = _varied(  # before Keras, which takes ten seconds to load
        recipe,
        backbone=backbone,
        epochs=epochs,
        average=average,
        resize=resize,
        has_random_weights=weights == RANDOM,
        earlier=earlier,
        teachers=len(teacher),
        precision=precision,
        threshold_rule=threshold_rule,
    )
    _require_usable(weights, chosen)
    if len(index) > len(data):
        raise BadSetting(f"{len(index)} times --index: give one for each --data at most, in the same order")
    stated = _population(population, ages, previous)
    there = read_rule(elsewhere_rule) if elsewhere_rule else None

    load_keras()
    from trainer.data.manifest import Origin
    from trainer.run.run import FitOptions

    (first, first_index), *more = zip_longest(data, index)
    options = FitOptions(
        data=first,
        recipe=chosen,
        out=out,
        index=first_index,
        more=tuple(more),
        elsewhere=(elsewhere, elsewhere_index) if elsewhere else None,
        elsewhere_rule=there,
        weights=weights,
        left_out=leave_out,
        teachers=teacher,
        seed=seed,
        split_seed=split_seed,
        limit=limit,
        origin=Origin(stated, attribution),
        is_patient_each=each_file_a_patient,
        keeps_stated=not resplit,
        command=command_line(click.get_current_context()),
    )
    _run(options, folds, earlier, has_report=not no_report)


def _varied(
    name: str,
    *,
    backbone: str | None,
    epochs: str | None,
    average: int | None,
    resize: str | None,
    has_random_weights: bool,
    earlier: "PreviousRun | None",
    teachers: int,
    precision: "Precision",
    threshold_rule: str | None,
) -> "Recipe":
    """The recipe of this name with what the options change; raises BadSetting."""
    from trainer.recipes import recipe_named
    from trainer.statistics.operating_point import read_rule
    from worker.imaging.preprocess import resize_named

    chosen = recipe_named(name)
    if backbone:
        chosen = chosen.on(backbone)
    if epochs:
        chosen = chosen.lasting(_numbers(epochs))
    if average:
        chosen = chosen.averaging(average)
    if resize:
        chosen = chosen.seeing(resize_named(resize))
    if has_random_weights:
        chosen = chosen.varied("random first weights")
    if earlier:
        chosen = earlier.start_of(chosen)
    if teachers:
        chosen = chosen.varied(f"taught by {teachers} model(s)")
    chosen = chosen.computing_in(precision)
    return replace(chosen, threshold=read_rule(threshold_rule)) if threshold_rule else chosen


def _require_usable(weights: Path | None, recipe: "Recipe") -> None:
    """Raise BadSetting for a file of weights that is not there, or that the recipe's network has no use for."""
    from trainer.recipes.backbone import RANDOM

    if weights is None or weights == RANDOM:
        return
    if not recipe.backbone:
        raise BadSetting(f"recipe {recipe.name} has no pretrained part: leave --weights {weights} away")
    if not weights.is_file():
        raise BadSetting("no such weights file").about(str(weights))


def _run(options: "FitOptions", folds: int | None, earlier: "PreviousRun | None", *, has_report: bool) -> None:
    """Run once, or once for each fold; then warn of leaks from an earlier run, and write the reports."""
    from trainer.progress import reporting
    from trainer.report.page import write_report
    from trainer.run.run import fold_folder, run, run_folds

    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    with reporting(out / "log.jsonl") as report_event:
        if folds:
            run_folds(options, folds, report_event)
        else:
            run(options, report_event)
        made = [fold_folder(out, fold) for fold in range(1, folds + 1)] if folds else [out]
        if earlier:
            for warning in leaks(earlier, made):
                report_event({"event": "warning", "text": warning})
        if has_report:
            for folder in made:
                write_report(folder, options.root, report_event, recipe=options.recipe)


@click.command()
@as_json
def recipes(as_json: bool) -> None:
    """List the recipes."""
    from trainer.cli.tables import recipe_rows, show_recipes
    from trainer.recipes import RECIPES

    if as_json:
        click.echo(json.dumps(recipe_rows(RECIPES), indent=1))
    else:
        show_recipes(RECIPES)


def leaks(earlier: "PreviousRun", folders: Sequence[Path]) -> list[str]:
    """A warning for each held-out split of these runs, or folds, with images that the earlier run was trained on."""
    from trainer.data.manifest import read_manifest
    from trainer.training.warm_start import SPLIT

    found = [
        (folder.name, warning) for folder in folders for warning in earlier.leaks_into(read_manifest(folder / SPLIT))
    ]
    return [warning if len(folders) == 1 else f"{name}: {warning}" for name, warning in found]


def _population(description: str | None, ages: tuple[int, int] | None, previous: Path | None) -> Population:
    """The population of the new card: as stated, else as in the earlier run.

    Raises BadSetting where the earlier run does not say it, or when no age lies between the bounds.
    """
    from trainer.run.record import population_of

    inherited = None if previous is None else population_of(previous)
    if previous is not None and inherited is None and (description is None or ages is None):
        raise BadSetting(
            "nothing there says for whom the earlier model was made: give --population and --ages (0 150: every age)"
        ).about(str(previous))
    earlier = inherited or Population("not stated")
    if ages is not None and not 0 <= ages[0] <= ages[1]:
        raise BadSetting(f"--ages takes the lower bound first, then the higher one, in years: not {ages[0]} {ages[1]}")
    bounds = ages or (earlier.min_age_years, earlier.max_age_years)
    made = Population(description or earlier.description, *bounds)
    if previous is not None:
        years = f"ages {made.min_age_years} to {made.max_age_years}" if made.has_ages else NO_AGES
        click.echo(f"population: {made.description}, {years}", err=True)
    return made


def _numbers(text: str) -> list[int]:
    """`5,60` -> [5, 60]; raises BadSetting."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or not sum(numbers):
        raise BadSetting(f"--epochs takes one number, or one for each phase such as 5,60, not {text!r}")
    return numbers
