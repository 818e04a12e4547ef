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
@click.option("--seed", default=0, help="Seed of the split that is checked.")
@patient_each
@as_json
def audit(data: Path, index: Path | None, seed: int, each_file_a_patient: bool, as_json: bool) -> None:
    """Check images for duplicates, leaks, label conflicts and shortcuts before training."""
    from trainer.cli.tables import show_audit
    from trainer.data.audit import audit as audit_manifest
    from trainer.data.folders import read_samples
    from trainer.data.split import split

    findings = audit_manifest(split(read_samples(data, index, each_file_a_patient), seed), data)
    if as_json:
        click.echo(json.dumps(findings.to_json(), indent=1))
    else:
        show_audit(findings)
