"""Tables that compare a model file with the one it was made from, for `trainer half` and `trainer resize`."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.cli.console import new_table, print_table
from trainer.cli.options import print_left_out

if TYPE_CHECKING:
    from trainer.export.conversion import Conversion


def show_conversion(made: "Conversion", out: Path) -> None:
    """The differences of the predictions by split, and the new file."""
    from trainer.evaluation.agreement import Differences

    table = new_table("", *made.moved, title=f"{made.model} against its original, {made.provider}")
    for field in fields(Differences):
        measured = (getattr(moved, field.name) for moved in made.moved.values())
        table.add_row(field.name.replace("_", " "), *(f"{value:.4g}" for value in measured))
    print_table(table)
    print_left_out(made.unreadable)
    click.echo(
        f"threshold {made.threshold:g} (was {made.original_threshold:g}), familiarity limit {made.familiarity_limit:g},"
        f" {made.bytes / made.original_bytes:.0%} of the size\n{out} {made.model_digest}"
    )


def show_metrics(made: "Conversion") -> None:
    """Each metric that both cards state, before and after."""
    table = new_table("metric", "original", "new", "difference", "95 % interval", "images", title=made.model)
    for name, new in made.metrics.items():
        old = made.original_metrics.get(name)
        if old is None:
            continue
        interval = f"{new.low:.3f} to {new.high:.3f}"
        table.add_row(
            name, f"{old.value:.4f}", f"{new.value:.4f}", f"{new.value - old.value:+.4f}", interval, str(new.n)
        )
    print_table(table)
