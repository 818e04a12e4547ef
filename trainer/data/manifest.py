"""The images of a data set with their patients, labels and splits, and the CSV file that keeps them.

`trainer.data.folders` finds the images, `trainer.data.split` assigns patients to splits.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainer.data.atomic_file import write_atomically
from worker.errors import BadData
from worker.inference.card import Population

#: Folder or CSV label (lower case) -> class; 1 is what the model flags. `no_pneumonia` is a `worker review` verdict.
LABELS = {"normal": 0, "pneumonia": 1, "no_pneumonia": 0, "0": 0, "1": 1}

#: `Sample.split` beside train, validation and test.
LEFT_OUT = "left_out"
#: What an index says of images that are trained on and never measured on, such as those of another population.
TRAIN_ONLY = "train_only"
UNREADABLE = "unreadable"

#: Split -> warning, for splits other than the test split.
NOT_HELD_OUT = {
    "train": "measured on the images that trained the model: these numbers do not hold for other images",
    "validation": "measured on the images that chose epoch, threshold and calibration: these numbers are too good",
}

COLUMNS = ("path", "label", "subtype", "patient", "group", "source_sha256", "split")
#: Written, and part of the digest, only if a sample has them.
EXTRA_COLUMNS = ("view", "age", "source", "style")


@dataclass(frozen=True)
class Sample:
    """One labelled image file."""

    path: str  #: relative to the manifest's root, with forward slashes
    label: int  #: 1: pneumonia
    subtype: str  #: such as bacteria, virus; the label's name where none is known
    patient: str
    source_sha256: str  #: of the file as published, else of the file itself
    group: str = ""  #: patients that must stay together; set by `trainer.data.split`
    split: str = ""  #: train, validation, test or TRAIN_ONLY; also LEFT_OUT or UNREADABLE after `trainer.data.split`
    view: str = ""  #: such as PA, AP
    age_years: float | None = None
    source: str = ""  #: hospital, device or collection
    style: str = ""  #: `usual` for its class, or `against` it; set by `trainer styles`


@dataclass(frozen=True)
class Origin:
    """Which population the images come from, for the card."""

    population: Population = Population("not stated")
    attribution: str = ""  #: of the images that the model file contains as goldens


@dataclass(frozen=True)
class Manifest:
    """The samples of one data set, each with its split."""

    samples: tuple[Sample, ...]
    seed: int

    @property
    def digest(self) -> str:
        """SHA-256 over every sample's row, in the order of paths: the same data and split, the same digest."""
        return digest(self.samples)

    def of(self, split: str) -> tuple[Sample, ...]:
        """The samples of one split, in the order of paths."""
        return tuple(s for s in self.samples if s.split == split)


def digest(samples: Iterable[Sample]) -> str:
    """SHA-256 over the rows of these samples."""
    hasher = hashlib.sha256()
    for sample in sorted(samples, key=lambda s: s.path):
        hasher.update("\t".join(_row(sample)).encode() + b"\n")
    return hasher.hexdigest()


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write CSV with COLUMNS and, where known, EXTRA_COLUMNS; the first line is a comment with seed and digest."""
    has_extras = any(_extras(sample) for sample in manifest.samples)
    text = io.StringIO(f"# seed={manifest.seed} digest={manifest.digest}\n", newline="")
    text.seek(0, io.SEEK_END)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS + EXTRA_COLUMNS if has_extras else COLUMNS)
    writer.writerows(_row(sample) for sample in manifest.samples)
    write_atomically(text.getvalue().encode(), path)


def read_manifest(path: Path) -> Manifest:
    """Inverse of `write_manifest`; raises BadData when there is no such file, or its content does not match the digest
    in its first line."""
    try:
        file = io.StringIO(path.read_bytes().decode("utf-8"), newline="")
    except OSError as error:
        raise BadData(f"cannot be read ({error.strerror}): give the split.csv of a run").about(str(path)) from error
    except UnicodeDecodeError as error:
        raise BadData("is no split manifest: it is not text in UTF-8").about(str(path)) from error
    head = re.fullmatch(r"# seed=(-?\d+) digest=([0-9a-f]{64})", file.readline().strip())
    if head is None:
        raise BadData("is no split manifest: its first line should name seed and digest").about(str(path))
    try:
        samples = tuple(
            Sample(
                path=row["path"],
                label=LABELS[row["label"]],
                subtype=row["subtype"],
                patient=row["patient"],
                source_sha256=row["source_sha256"],
                group=row["group"],
                split=row["split"],
                view=row.get("view") or "",
                age_years=float(row["age"]) if row.get("age") else None,
                source=row.get("source") or "",
                style=row.get("style") or "",
            )
            for row in csv.DictReader(file, restval="")
        )
    except (KeyError, ValueError, csv.Error) as error:
        raise BadData(f"lacks a column, or has an unknown label: {error}").about(str(path)) from error
    manifest = Manifest(samples, int(head[1]))
    if manifest.digest != head[2]:
        raise BadData("was changed after it was written: its digest does not match").about(str(path))
    return manifest


def _row(sample: Sample) -> tuple[str, ...]:
    name = "pneumonia" if sample.label else "normal"
    plain = (sample.path, name, sample.subtype, sample.patient, sample.group, sample.source_sha256, sample.split)
    return plain + _extras(sample)


def _extras(sample: Sample) -> tuple[str, ...]:
    age = "" if sample.age_years is None else f"{sample.age_years:g}"
    extras = (sample.view, age, sample.source, *([sample.style] if sample.style else []))
    return extras if any(extras) else ()
