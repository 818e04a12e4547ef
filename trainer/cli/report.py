"""The verb `trainer report`."""

from pathlib import Path

import click

from trainer.cli.labelled import provider
from trainer.cli.options import FILE, load_keras
from trainer.report import PREVALENCE


@click.command()
@click.argument("run", type=FILE)
@click.option("--data", type=FILE, required=True, help="Folder of the run's images.")
@click.option("--split", default="test", show_default=True, help="Split of the run's split.csv.")
@provider
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=PREVALENCE,
    show_default=True,
    help="Prevalence for PPV and NPV.",
)
@click.option("--out", type=FILE, help="Folder for report.html and report.json. Default: the run folder.")
def report(run: Path, data: Path, split: str, provider: str, prevalence: float, out: Path | None) -> None:
    """Write report.html and report.json: curves, calibration, pictures of the worst errors, results of the audit."""
    load_keras()
    from trainer.progress import silent
    from trainer.report.page import write_report

    page = write_report(run, data, silent, out=out, split=split, provider=provider, prevalence=prevalence)
    click.echo(f"written to {page}")
