"""The options that name labelled images to measure a model on, and the samples that they give."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.cli.options import FILE, data, index, patient_each
from worker.errors import BadData

if TYPE_CHECKING:
    from trainer.data.manifest import Sample


provider = click.option("--provider", default="auto", show_default=True, help="auto, cpu or cuda.")


def labelled_images(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options --data, --index, --split-manifest, --split, --provider and --each-file-a-patient."""
    for option in reversed(
        (
            data,
            index,
            click.option("--split-manifest", type=FILE, help="The split.csv of a run; with --split."),
            click.option("--split", default="test", show_default=True, help="Split of the split manifest."),
            provider,
            patient_each,
        )
    ):
        verb = option(verb)
    return verb


def samples_of(
    data: Path, index: Path | None, split_manifest: Path | None, split: str, is_patient_each: bool
) -> "tuple[Sample, ...]":
    """The samples of one split of a manifest, or else all below the folder; raises BadData when there are none."""
    from trainer.data.folders import read_samples
    from trainer.data.manifest import read_manifest

    samples = read_manifest(split_manifest).of(split) if split_manifest else read_samples(data, index, is_patient_each)
    if not samples:
        raise BadData(f"has no split {split!r}").about(str(split_manifest))
    return samples
