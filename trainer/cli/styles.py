"""The verb `trainer styles`: what acquisition style tells of the label, and a split that holds odd styles out."""

from pathlib import Path

import click

from trainer.cli.options import FILE, index


@click.command()
@click.argument("data", type=FILE)
@index
@click.option("--leave-out", type=FILE, multiple=True, help="Keep the patients of this folder or CSV out.")
@click.option("--seed", default=0, help="Of the split that the other images are dealt by.")
@click.option("--share", default=1.0, show_default=True, type=click.FloatRange(0, 1), help="Of the odd ones, held out.")
@click.option("--out", type=FILE, help="Write the split here: give it to `trainer fit` as --index.")
def styles(
    data: Path, index: Path | None, leave_out: tuple[Path, ...], seed: int, share: float, out: Path | None
) -> None:
    """Tell how well style alone predicts the label; hold out, whole, the images that have the other class's style."""
    from trainer.cli.tables import show_styles
    from trainer.data.manifest import read_left_out, read_samples, write_manifest
    from trainer.data.split import split
    from trainer.data.style import hold_out

    left_out = [sample for path in leave_out for sample in read_left_out(path)]
    found = hold_out(split(read_samples(data, index), seed, left_out), data, share)
    show_styles(found)
    if out:
        write_manifest(found.manifest, out)
        click.echo(f"written to {out}")
