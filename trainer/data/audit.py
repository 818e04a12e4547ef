"""Faults of a data set, found before training: duplicates, leaks between splits, label conflicts and shortcuts."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainer.data.images import read_images
from trainer.data.manifest import LEFT_OUT, Manifest, Sample
from trainer.data.near_duplicates import PictureHash, hash_picture, near_duplicates
from trainer.data.shortcuts import Probes, is_shortcut, probe, separation, separations
from trainer.progress import Report, silent
from trainer.statistics.metrics import Measured

#: Largest number of near duplicates that a report names; all are counted.
NAMED = 50


@dataclass(frozen=True)
class Audit:
    """The findings. Counts are of images unless stated otherwise."""

    images: int
    groups: int
    by_split: dict[str, dict[str, int]]  #: split -> subtype -> images
    unreadable: list[dict[str, str]]  #: path, code, message
    duplicates: int  #: images whose source is that of an earlier image
    duplicates_across_splits: list[str]
    patients_across_splits: list[str]
    label_conflicts: list[list[str]]  #: paths of one source under two labels
    near_duplicates: int  #: pairs of images of two groups that show nearly the same picture
    near_duplicates_across_splits: list[list[str]]  #: the first NAMED of them
    near_label_conflicts: list[list[str]]
    shortcuts: dict[str, Measured]  #: AUC of a number that should not depend on the class

    @property
    def warnings(self) -> list[str]:
        """The findings that a person should check before training on these images, as sentences."""
        found = [f"shortcut: {name} alone separates the classes with AUC {separation(auc)}"
                 for name, auc in self.shortcuts.items() if is_shortcut(auc)]  # fmt: skip
        found += [f"label conflict: one source under two labels: {', '.join(paths)}" for paths in self.label_conflicts]
        found += [f"leak: source of {path} lies in two splits" for path in self.duplicates_across_splits]
        found += [f"leak: patient {patient} lies in two splits" for patient in self.patients_across_splits]
        found += [f"leak: nearly one picture in two splits: {a}, {b}" for a, b in self.near_duplicates_across_splits]
        found += [f"label conflict: nearly one picture, two labels: {a}, {b}" for a, b in self.near_label_conflicts]
        if self.unreadable:
            found.append(f"{len(self.unreadable)} files cannot be read, such as {self.unreadable[0]['path']}")
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON, with the warnings."""
        shortcuts = {name: auc._asdict() for name, auc in self.shortcuts.items()}
        return asdict(self) | {"shortcuts": shortcuts, "warnings": self.warnings}


def audit(manifest: Manifest, root: Path, report: Report = silent) -> Audit:
    """Check the manifest and its files; decodes every file once."""
    samples = manifest.samples
    by_source = _grouped_by(samples, lambda s: s.source_sha256)
    by_split: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        by_split[sample.split][sample.subtype] += 1
    decoded = _decode(samples, root, report)
    alike = [
        (decoded.samples[pair.first], decoded.samples[pair.second])
        for pair in near_duplicates(decoded.hashes)
        if decoded.samples[pair.first].group != decoded.samples[pair.second].group
    ]
    trained = [i for i, sample in enumerate(decoded.samples) if sample.split != LEFT_OUT]
    return Audit(
        images=len(samples),
        groups=len({s.group for s in samples}),
        by_split={split: dict(sorted(counts.items())) for split, counts in sorted(by_split.items())},
        unreadable=decoded.unreadable,
        duplicates=sum(len(same) - 1 for same in by_source.values()),
        duplicates_across_splits=[same[0].path for same in by_source.values() if _is_in_two_splits(same)],
        patients_across_splits=[
            p for p, own in _grouped_by(samples, lambda s: s.patient).items() if _is_in_two_splits(own)
        ],
        label_conflicts=[[s.path for s in same] for same in by_source.values() if len({s.label for s in same}) > 1],
        near_duplicates=len(alike),
        near_duplicates_across_splits=[[a.path, b.path] for a, b in alike if a.split != b.split][:NAMED],
        near_label_conflicts=[[a.path, b.path] for a, b in alike if a.label != b.label][:NAMED],
        shortcuts=separations(
            np.array([decoded.samples[i].label for i in trained], np.int64), [decoded.probes[i] for i in trained]
        ),
    )


class _Decoded(NamedTuple):
    """The result of decoding the files; the first three lists have one item for each readable file."""

    samples: list[Sample]
    hashes: list[PictureHash]
    probes: list[Probes]
    unreadable: list[dict[str, str]]


def _decode(samples: Sequence[Sample], root: Path, report: Report) -> _Decoded:
    decoded = _Decoded([], [], [], [])
    for loaded in read_images(root, samples, decoded.unreadable, report):
        decoded.samples.append(loaded.sample)
        decoded.hashes.append(hash_picture(loaded.pixels))
        decoded.probes.append(probe(loaded.content, loaded.pixels))
    return decoded


def _grouped_by(samples: Sequence[Sample], key: Callable[[Sample], str]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[key(sample)].append(sample)
    return groups


def _is_in_two_splits(samples: Sequence[Sample]) -> bool:
    return len({sample.split for sample in samples}) > 1
