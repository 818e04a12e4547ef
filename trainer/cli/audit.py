"""The verb `trainer audit`."""

import json
from pathlib import Path

import click

from trainer.cli.options import (
    FILE,
    as_json,
    index,
    patient_each,
)


@click.command()
@click.argument("data", type=FILE)
@index
@click.option("--seed", default=0, help="Of the split that is looked over.")
@patient_each
@as_json
def audit(data: Path, index: Path | None, seed: int, each_file_a_patient: bool, as_json: bool) -> None:
    """Look for duplicates, leaks, label conflicts and shortcuts before training."""
    from trainer.cli.tables import show_audit
    from trainer.data.audit import audit as look_over
    from trainer.data.manifest import read_samples
    from trainer.data.split import split as deal

    findings = look_over(deal(read_samples(data, index, each_file_a_patient), seed), data)
    if as_json:
        click.echo(json.dumps(findings.to_json(), indent=1))
    else:
        show_audit(findings)
