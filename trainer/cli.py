"""The program `trainer`: one function a verb. Keras and TensorFlow are loaded by the verbs that need them."""

import json
import os
import sys
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from worker.errors import BadData, ScreeningError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


class Exit(IntEnum):
    """What the program answers to its caller."""

    OK = 0
    REFUSED = 1  #: wrong data, setting or model; the message names the remedy
    USAGE = 2  #: the command line itself is wrong (Typer's own)
    INTERRUPTED = 130  #: stopped by a person; the same command goes on


Data = Annotated[Path, typer.Option("--data", help="Folder with the images, NORMAL and PNEUMONIA below it.")]
Index = Annotated[Path | None, typer.Option("--index", help="CSV with path, label, patient [subtype, source_sha256].")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def fit(
    data: Data,
    recipe: Annotated[str, typer.Option(help="See `trainer recipes`.")],
    out: Annotated[Path, typer.Option(help="Run folder: split, checkpoint, log, model. The same command resumes.")],
    index: Index = None,
    weights: Annotated[Path | None, typer.Option(help="Pretrained weights of the backbone.")] = None,
    leave_out: Annotated[list[Path] | None, typer.Option(help="Keep the patients of this folder or CSV out.")] = None,
    seed: Annotated[int, typer.Option(help="Of split, order, augmentation, first weights.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's own.")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Use about so many images only.")] = None,
    attribution: Annotated[str, typer.Option(help="Of the images that travel in the model as goldens.")] = "",
) -> None:
    """Train a recipe on labelled images and write one model file."""
    _quieten_tensorflow()
    from trainer.recipes import recipe_named

    chosen = recipe_named(recipe)  # before Keras takes its ten seconds to load

    from trainer.report import reporting
    from trainer.run import Order, run

    order = Order(
        data=data,
        recipe=chosen.lasting(epochs) if epochs else chosen,
        out=out,
        index=index,
        weights=weights,
        left_out=tuple(leave_out or ()),
        seed=seed,
        limit=limit,
        attribution=attribution,
    )
    out.mkdir(parents=True, exist_ok=True)
    with reporting(out / "log.jsonl") as report:
        run(order, report)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model file that `trainer fit` wrote.")],
    data: Data,
    index: Index = None,
    split_manifest: Annotated[Path | None, typer.Option(help="The split.csv of a run; with --split.")] = None,
    split: Annotated[str, typer.Option(help="Which part of the split manifest.")] = "test",
    provider: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Json = False,
) -> None:
    """Measure a model file on labelled images, through the same eyes as the worker."""
    from trainer.evaluate import evaluate_file
    from trainer.manifest import read_manifest, read_samples
    from trainer.report import silent

    samples = read_manifest(split_manifest).of(split) if split_manifest else read_samples(data, index)
    if not samples:
        raise BadData(f"has no split {split!r}").about(str(split_manifest))
    report = evaluate_file(model, provider, data, samples, silent)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=1))
        return
    table = Table("", "value", "95 % interval", "n", title=f"{report.model} on {report.n} images, {report.provider}")
    rows = report.metrics | {f"sensitivity {k}": v for k, v in report.sensitivity_by_subtype.items()}
    for name, e in rows.items():
        table.add_row(name, f"{e.value:.4f}", f"{e.low:.4f} to {e.high:.4f}", str(e.n))
    Console().print(table)
    for fault in report.unreadable:
        typer.echo(f"unreadable: {fault['path']}: {fault['code']}: {fault['message']}", err=True)


@app.command()
def audit(
    data: Annotated[Path, typer.Argument(help="Folder with the images.")],
    index: Index = None,
    seed: Annotated[int, typer.Option(help="Of the split that is looked over.")] = 0,
    as_json: Json = False,
) -> None:
    """Look for duplicates, leaks, label conflicts and shortcuts before training."""
    from trainer.audit import audit as look_over
    from trainer.manifest import read_samples
    from trainer.manifest import split as deal

    findings = look_over(deal(read_samples(data, index), seed), data)
    if as_json:
        typer.echo(json.dumps(findings.to_json(), indent=1))
        return
    table = Table("split", "images by subtype", title=f"{findings.images} images, {findings.groups} groups")
    for name, counts in findings.by_split.items():
        table.add_row(name, ", ".join(f"{subtype} {count}" for subtype, count in counts.items()))
    Console().print(table)
    typer.echo(f"{findings.duplicates} duplicates")
    for warning in findings.warnings:
        typer.echo(f"warning: {warning}", err=True)


@app.command()
def recipes(as_json: Json = False) -> None:
    """List the recipes."""
    from trainer.recipes import RECIPES

    if as_json:
        rows = [(r.name, r.summary, r.preprocessing.size, r.epochs) for r in RECIPES]
        typer.echo(json.dumps([dict(zip(("name", "summary", "size_px", "epochs"), row, strict=True)) for row in rows]))
        return
    table = Table("recipe", "input", "epochs", "what it is")
    for r in RECIPES:
        table.add_row(r.name, f"{r.preprocessing.size} px", str(r.epochs), r.summary)
    Console().print(table)


def main() -> None:
    """Run the program; our own errors become one line and exit 1."""
    try:
        app()
    except ScreeningError as error:
        Console(stderr=True).print(f"[red]{error.code}[/red]: ", end="")
        Console(stderr=True, markup=False, highlight=False).print(str(error))
        sys.exit(Exit.REFUSED)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)


def _quieten_tensorflow() -> None:
    """Its greetings would stand among the JSON lines; what a person set stays."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
