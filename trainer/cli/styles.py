"""The verb `trainer styles`."""

from pathlib import Path

import click

from trainer.cli.options import FILE, index, patient_each


@click.command()
@click.argument("data", type=FILE)
@index
@patient_each
@click.option("--leave-out", type=FILE, multiple=True, help="Leave out the patients of this folder or CSV.")
@click.option("--seed", default=0, help="Seed of the split of the other images.")
@click.option(
    "--share",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of the images with the other class's style that is held out.",
)
@click.option("--out", type=FILE, help="Write the split to this file, for `trainer fit --index`.")
def styles(
    data: Path,
    index: Path | None,
    each_file_a_patient: bool,
    leave_out: tuple[Path, ...],
    seed: int,
    share: float,
    out: Path | None,
) -> None:
    """Measure how well style alone predicts the label; hold out the images that have the other class's style."""
    from trainer.cli.tables import show_styles
    from trainer.data.folders import read_samples
    from trainer.data.left_out import left_out_of
    from trainer.data.manifest import write_manifest
    from trainer.data.split import split
    from trainer.data.style import hold_out

    samples = read_samples(data, index, each_file_a_patient)
    left_out = left_out_of(samples, leave_out, each_file_a_patient)
    found = hold_out(split(samples, seed, left_out), data, share)
    show_styles(found)
    if out:
        write_manifest(found.manifest, out)
        click.echo(f"written to {out}")
