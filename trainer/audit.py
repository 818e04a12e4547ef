"""What is wrong with a data set before anything learns from it: duplicates, leaks, conflicts, and shortcuts.

A shortcut probe asks how well a number that holds no anatomy (file size, bytes per pixel) predicts the label; an AUC
far from 0.5 means that a network could learn the container instead of the chest.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.manifest import LEFT_OUT, Manifest, Sample
from trainer.metrics import Measured, roc_auc
from worker.errors import Rejected
from worker.imaging.limits import Limits
from worker.imaging.reading import read_instance

#: An AUC this far from 0.5 is worth a warning.
SHORTCUT_MARGIN = 0.2


@dataclass(frozen=True)
class Audit:
    """The findings; counts are of images unless they say otherwise."""

    images: int
    groups: int
    by_split: dict[str, dict[str, int]]  #: split -> subtype -> images
    duplicates: int  #: images whose source came before
    duplicates_across_splits: list[str]
    patients_across_splits: list[str]
    label_conflicts: list[list[str]]  #: paths of one source under two labels
    shortcuts: dict[str, Measured]  #: AUC of a number that should say nothing

    @property
    def warnings(self) -> list[str]:
        """What a person should look at before training on this."""
        found = [f"shortcut: {name} alone separates the classes with AUC {auc.value:.3f}"
                 for name, auc in self.shortcuts.items() if abs(auc.value - 0.5) > SHORTCUT_MARGIN]  # fmt: skip
        found += [f"label conflict: one source under two labels: {', '.join(paths)}" for paths in self.label_conflicts]
        found += [f"leak: source of {path} lies in two splits" for path in self.duplicates_across_splits]
        found += [f"leak: patient {patient} lies in two splits" for patient in self.patients_across_splits]
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values, the warnings among them."""
        shortcuts = {name: auc._asdict() for name, auc in self.shortcuts.items()}
        return asdict(self) | {"shortcuts": shortcuts, "warnings": self.warnings}


def audit(manifest: Manifest, root: Path) -> Audit:
    """Look the manifest and its files over; reads every file's size and header."""
    samples = manifest.samples
    by_source = _together(samples, lambda s: s.source_sha256)
    by_split: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        by_split[sample.split][sample.subtype] += 1
    return Audit(
        images=len(samples),
        groups=len({s.group for s in samples}),
        by_split={split: dict(sorted(counts.items())) for split, counts in sorted(by_split.items())},
        duplicates=sum(len(same) - 1 for same in by_source.values()),
        duplicates_across_splits=[same[0].path for same in by_source.values() if _is_torn(same)],
        patients_across_splits=[p for p, own in _together(samples, lambda s: s.patient).items() if _is_torn(own)],
        label_conflicts=[[s.path for s in same] for same in by_source.values() if len({s.label for s in same}) > 1],
        shortcuts=_probe([s for s in samples if s.split != LEFT_OUT], root),
    )


def _together(samples: Sequence[Sample], key: Callable[[Sample], str]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[key(sample)].append(sample)
    return groups


def _is_torn(samples: Sequence[Sample]) -> bool:
    return len({sample.split for sample in samples}) > 1


def _probe(samples: Sequence[Sample], root: Path) -> dict[str, Measured]:
    """AUC of the size in bytes, the bytes per pixel and the aspect; files that cannot be read are passed over."""
    labels, rows = [], []
    for sample in samples:
        content = (root / sample.path).read_bytes()
        try:
            instance = read_instance(content, Limits())
        except Rejected:
            continue
        pixels = max(1, instance.rows * instance.columns)
        labels.append(sample.label)
        rows.append((len(content), len(content) / pixels, pixels, instance.columns / max(1, instance.rows)))
    values = np.array(rows, np.float64).reshape(-1, 4)
    names = ("file size", "bytes per pixel", "pixel count", "aspect ratio")
    return {name: roc_auc(np.array(labels, np.int64), values[:, i]) for i, name in enumerate(names)}
