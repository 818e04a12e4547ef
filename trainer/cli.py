"""The program `trainer`: one function a verb. Keras and TensorFlow are loaded by the verbs that need them."""

import json
import sys
from dataclasses import replace
from enum import IntEnum
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from trainer.familiarity_verb import familiarity
from trainer.half_verb import half
from trainer.heat_verb import heat
from trainer.labelled import labelled_images, samples_of
from trainer.reference_verb import reference
from trainer.report_verb import report
from trainer.shell import FILE, as_json, command_line, data, index, patient_each, quieten_tensorflow, threshold_rule
from trainer.styles_verb import styles
from worker.errors import BadSetting, ScreeningError
from worker.modelcard import Population


class Exit(IntEnum):
    """What the program answers to its caller."""

    OK = 0
    REFUSED = 1  #: wrong data, setting or model; the message names the remedy
    USAGE = 2  #: the command line itself is wrong (click's own)
    INTERRUPTED = 130  #: stopped by a person; the same command goes on


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def app() -> None:
    """Makes and measures the models that `worker` screens with."""


app.add_command(report)


@app.command()
@data
@click.option("--recipe", required=True, help="See `trainer recipes`.")
@click.option("--out", type=FILE, required=True, help="Run folder: split, checkpoint, log, model. It resumes there.")
@index
@click.option("--backbone", help="In place of the recipe's own: mobilenetv2, where the recipe allows it.")
@click.option("--weights", type=FILE, help="Weights of the backbone; `random`: none. Default: Keras's, downloaded.")
@click.option("--from", "previous", type=FILE, help="Run folder whose weights this fit starts from.")
@click.option("--leave-out", type=FILE, multiple=True, help="Keep the patients of this folder or CSV out.")
@click.option("--seed", default=0, help="Of split, order, augmentation, first weights.")
@click.option("--epochs", metavar="N[,N...]", help="Of all phases together, or of each phase.")
@threshold_rule
@click.option("--limit", type=click.IntRange(min=2), help="Use about so many images only.")
@click.option("--folds", type=click.IntRange(min=2), help="Train one model for each fold; out-of-fold predictions.")
@click.option("--resplit", is_flag=True, help="Deal anew, whatever splits folders or the index state.")
@patient_each
@click.option("--attribution", default="", help="Of the images that travel in the model as goldens.")
@click.option("--population", default="not stated", show_default=True, help="Whose images these are, for the card.")
@click.option("--ages", nargs=2, type=int, metavar="MIN MAX", help="Completed years; others get no negative verdict.")
@click.option("--no-report", is_flag=True, help="Leave report.html and report.json out.")
def fit(
    data: Path,
    recipe: str,
    out: Path,
    index: Path | None,
    backbone: str | None,
    weights: Path | None,
    previous: Path | None,
    leave_out: tuple[Path, ...],
    seed: int,
    epochs: str | None,
    threshold_rule: str | None,
    limit: int | None,
    folds: int | None,
    resplit: bool,
    each_file_a_patient: bool,
    attribution: str,
    population: str,
    ages: tuple[int, int] | None,
    no_report: bool,
) -> None:
    """Train a recipe on labelled images and write one model file."""
    quieten_tensorflow()
    from trainer.backbone import RANDOM
    from trainer.operating_point import read_rule
    from trainer.previous import read_previous
    from trainer.recipes import recipe_named

    chosen = recipe_named(recipe)  # before Keras takes its ten seconds to load
    if backbone:
        chosen = chosen.on(backbone)
    if epochs:
        chosen = chosen.lasting(_numbers(epochs))
    if weights == RANDOM:
        chosen = chosen.varied("random first weights")
    earlier = read_previous(previous) if previous else None
    if earlier:
        chosen = earlier.start_of(chosen)
    if threshold_rule:
        chosen = replace(chosen, threshold=read_rule(threshold_rule))

    from trainer.manifest import Origin, read_manifest
    from trainer.page import write_report
    from trainer.report import reporting
    from trainer.run import Order, fold_folder, run, run_folds

    order = Order(
        data=data,
        recipe=chosen,
        out=out,
        index=index,
        weights=weights,
        left_out=leave_out,
        seed=seed,
        limit=limit,
        origin=Origin(Population(population, *(ages or ())), attribution),
        is_patient_each=each_file_a_patient,
        keeps_stated=not resplit,
        command=command_line(click.get_current_context()),
    )
    out.mkdir(parents=True, exist_ok=True)
    with reporting(out / "log.jsonl") as tell:
        if folds:
            run_folds(order, folds, tell)
        else:
            run(order, tell)
            for warning in earlier.leaks_into(read_manifest(out / "split.csv")) if earlier else ():
                tell({"event": "warning", "text": warning})
        made = [fold_folder(out, fold) for fold in range(1, folds + 1)] if folds else [out]
        for folder in made if not no_report else ():
            write_report(folder, data, tell, recipe=chosen)


@app.command()
@click.argument("model", type=FILE)
@labelled_images
@click.option("--prevalence", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="For PPV and NPV there.")
@as_json
def evaluate(
    model: Path,
    data: Path,
    index: Path | None,
    split_manifest: Path | None,
    split: str,
    provider: str,
    prevalence: float | None,
    as_json: bool,
) -> None:
    """Measure a model file on labelled images, through the same eyes as the worker."""
    from trainer.console import show_evaluation
    from trainer.evaluate import evaluate_file
    from trainer.report import silent

    samples = samples_of(data, index, split_manifest, split)
    report = evaluate_file(model, provider, data, samples, silent, prevalence)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=1))
    else:
        show_evaluation(report)


@app.command()
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@labelled_images
@click.option("--out", type=FILE, required=True, help="Folder for comparison.json and pictures of what changed.")
@as_json
def compare(
    old: Path,
    new: Path,
    data: Path,
    index: Path | None,
    split_manifest: Path | None,
    split: str,
    provider: str,
    out: Path,
    as_json: bool,
) -> None:
    """Compare two model files on the same images: what `worker model promote` asks for."""
    from trainer.compare import compare_files, rows_of
    from trainer.report import silent
    from worker.comparison import judge

    found = compare_files(old, new, provider, data, samples_of(data, index, split_manifest, split), out, silent)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    title = f"{found.new.name} against {found.old.name}, {found.n} images of {found.patients} patients"
    table = Table("", "old", "new", "difference", "95 % interval", "lost", "won", title=title)
    for row in rows_of(found):
        table.add_row(*row)
    Console().print(table)
    pictures = sum(flip.picture is not None for flip in found.flips)
    click.echo(f"{judge(found).says}\nwritten to {out}: comparison.json and {pictures} pictures of images that changed")


@app.command()
@click.argument("model", type=FILE)
@labelled_images
@as_json
def shift(
    model: Path,
    data: Path,
    index: Path | None,
    split_manifest: Path | None,
    split: str,
    provider: str,
    as_json: bool,
) -> None:
    """Measure a model file on restyled, re-compressed, resampled copies of labelled images."""
    from trainer.console import show_shift
    from trainer.report import silent
    from trainer.shift import shift_file

    found = shift_file(model, provider, data, samples_of(data, index, split_manifest, split), silent)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        show_shift(found)


@app.command()
@click.argument("data", type=FILE)
@index
@click.option("--seed", default=0, help="Of the split that is looked over.")
@patient_each
@as_json
def audit(data: Path, index: Path | None, seed: int, each_file_a_patient: bool, as_json: bool) -> None:
    """Look for duplicates, leaks, label conflicts and shortcuts before training."""
    from trainer.audit import audit as look_over
    from trainer.console import show_audit
    from trainer.manifest import read_samples
    from trainer.split import split as deal

    findings = look_over(deal(read_samples(data, index, each_file_a_patient), seed), data)
    if as_json:
        click.echo(json.dumps(findings.to_json(), indent=1))
    else:
        show_audit(findings)


@app.command()
@as_json
def recipes(as_json: bool) -> None:
    """List the recipes."""
    from trainer.console import recipe_rows, show_recipes
    from trainer.recipes import RECIPES

    if as_json:
        click.echo(json.dumps(recipe_rows(RECIPES), indent=1))
    else:
        show_recipes(RECIPES)


app.add_command(styles)
app.add_command(heat)
app.add_command(familiarity)
app.add_command(reference)
app.add_command(half)


def main() -> None:
    """Run the program; our own errors become one line and exit 1."""
    try:
        app(standalone_mode=False)  # else click ends an interrupted run with 1, as if it had been refused
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.USAGE)
    except ScreeningError as error:
        Console(stderr=True).print(f"[red]{error.code}[/red]: ", end="")
        Console(stderr=True, markup=False, highlight=False).print(str(error))
        sys.exit(Exit.REFUSED)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(Exit.INTERRUPTED)


def _numbers(text: str) -> list[int]:
    """`5,60` -> [5, 60]; raises BadSetting."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or not sum(numbers):
        raise BadSetting(f"--epochs takes one number, or one for each phase such as 5,60, not {text!r}")
    return numbers
