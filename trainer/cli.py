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

from worker.errors import ScreeningError

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
    from trainer.report import reporting
    from trainer.run import Order, run

    chosen = recipe_named(recipe)
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
def recipes(as_json: Json = False) -> None:
    """List the recipes."""
    from trainer.recipes import RECIPES

    if as_json:
        rows = [{"name": r.name, "summary": r.summary, "size": r.preprocessing.size, "epochs": r.epochs} for r in RECIPES]
        typer.echo(json.dumps(rows, indent=1))
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
