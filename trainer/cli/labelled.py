"""The options that name labelled images to measure a model on, and the samples that they give."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.cli.options import FILE, data, index, patient_each
from worker.errors import BadData

if TYPE_CHECKING:
    from trainer.data.manifest import Sample
    from worker.inference.card import ModelCard


provider = click.option("--provider", default="auto", show_default=True, help="auto, cpu or cuda.")


@dataclass(frozen=True)
class LabelledImages:
    """Labelled images as the command line names them, and the provider that is to read them."""

    data: Path
    index: Path | None
    split_manifest: Path | None
    split: str
    provider: str
    each_file_a_patient: bool

    def samples(self) -> "tuple[Sample, ...]":
        """The samples of one split of a manifest, or else all below the folder; raises BadData when there are none."""
        from trainer.data.folders import read_samples
        from trainer.data.manifest import read_manifest

        if self.split_manifest is None:
            return read_samples(self.data, self.index, self.each_file_a_patient)
        samples = read_manifest(self.split_manifest).of(self.split)
        if not samples:
            raise BadData(f"has no split {self.split!r}").about(str(self.split_manifest))
        return samples

    def doubts(self, card: "ModelCard") -> list[str]:
        """Why the numbers of the model with this card may be too good on these samples, by the split manifest."""
        from trainer.data.manifest import NOT_HELD_OUT, read_manifest

        if self.split_manifest is None:
            return []
        found = [NOT_HELD_OUT[self.split]] if self.split in NOT_HELD_OUT else []
        if read_manifest(self.split_manifest).digest != card.data_digest:
            found.append("the model was made on another split than this one: some of these images may have trained it")
        return found

    def without_labels(self) -> "tuple[Sample, ...]":
        """The images that an index or a split names, or else every image below the folder; no label is to be used."""
        from trainer.export.reference import unlabelled

        return self.samples() if self.index or self.split_manifest else unlabelled(self.data)


OPTIONS = (
    data,
    index,
    click.option("--split-manifest", type=FILE, help="The split.csv of a run; with --split."),
    click.option("--split", default="test", show_default=True, help="Split of the split manifest."),
    provider,
    patient_each,
)


def labelled_images(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options --data, --index, --split-manifest, --split, --provider and --each-file-a-patient, as its
    parameter `images`."""

    @wraps(verb)
    def with_images(**values: Any) -> Any:
        named = LabelledImages(**{field.name: values.pop(field.name) for field in fields(LabelledImages)})
        return verb(images=named, **values)

    taking: Callable[..., Any] = with_images
    for option in reversed(OPTIONS):
        taking = option(taking)
    return taking
