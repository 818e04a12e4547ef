"""What is wrong with a data set before anything learns from it: duplicates, leaks, conflicts, and shortcuts."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainer.data.images import see
from trainer.data.manifest import LEFT_OUT, Manifest, Sample
from trainer.data.near_duplicates import Look, look_at, near_duplicates
from trainer.data.shortcuts import Probes, is_shortcut, probe, separations
from trainer.progress import Report, silent
from trainer.statistics.metrics import Measured

#: Near duplicates named in a report; all are counted.
NAMED = 50


@dataclass(frozen=True)
class Audit:
    """The findings; counts are of images unless they say otherwise."""

    images: int
    groups: int
    by_split: dict[str, dict[str, int]]  #: split -> subtype -> images
    unreadable: list[dict[str, str]]  #: path, code, message
    duplicates: int  #: images whose source came before
    duplicates_across_splits: list[str]
    patients_across_splits: list[str]
    label_conflicts: list[list[str]]  #: paths of one source under two labels
    near_duplicates: int  #: pairs of images of two groups that show nearly the same picture
    near_duplicates_across_splits: list[list[str]]  #: the first NAMED of them
    near_label_conflicts: list[list[str]]
    shortcuts: dict[str, Measured]  #: AUC of a number that should say nothing

    @property
    def warnings(self) -> list[str]:
        """What a person should look at before training on this."""
        found = [f"shortcut: {name} alone separates the classes with AUC {auc.value:.3f}"
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
        """Plain values, the warnings among them."""
        shortcuts = {name: auc._asdict() for name, auc in self.shortcuts.items()}
        return asdict(self) | {"shortcuts": shortcuts, "warnings": self.warnings}


def audit(manifest: Manifest, root: Path, report: Report = silent) -> Audit:
    """Look the manifest and its files over; decodes every one of them once."""
    samples = manifest.samples
    by_source = _together(samples, lambda s: s.source_sha256)
    by_split: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        by_split[sample.split][sample.subtype] += 1
    seen = _see(samples, root, report)
    alike = [
        (seen.samples[pair.first], seen.samples[pair.second])
        for pair in near_duplicates(seen.looks)
        if seen.samples[pair.first].group != seen.samples[pair.second].group
    ]
    trained = [i for i, sample in enumerate(seen.samples) if sample.split != LEFT_OUT]
    return Audit(
        images=len(samples),
        groups=len({s.group for s in samples}),
        by_split={split: dict(sorted(counts.items())) for split, counts in sorted(by_split.items())},
        unreadable=seen.unreadable,
        duplicates=sum(len(same) - 1 for same in by_source.values()),
        duplicates_across_splits=[same[0].path for same in by_source.values() if _is_torn(same)],
        patients_across_splits=[p for p, own in _together(samples, lambda s: s.patient).items() if _is_torn(own)],
        label_conflicts=[[s.path for s in same] for same in by_source.values() if len({s.label for s in same}) > 1],
        near_duplicates=len(alike),
        near_duplicates_across_splits=[[a.path, b.path] for a, b in alike if a.split != b.split][:NAMED],
        near_label_conflicts=[[a.path, b.path] for a, b in alike if a.label != b.label][:NAMED],
        shortcuts=separations(
            np.array([seen.samples[i].label for i in trained], np.int64), [seen.probes[i] for i in trained]
        ),
    )


class _Seen(NamedTuple):
    """What decoding the files gave; the first three lists belong together."""

    samples: list[Sample]
    looks: list[Look]
    probes: list[Probes]
    unreadable: list[dict[str, str]]


def _see(samples: Sequence[Sample], root: Path, report: Report) -> _Seen:
    seen = _Seen([], [], [], [])
    for loaded in see(root, samples, seen.unreadable, report):
        seen.samples.append(loaded.sample)
        seen.looks.append(look_at(loaded.pixels))
        seen.probes.append(probe(loaded.content, loaded.pixels))
    return seen


def _together(samples: Sequence[Sample], key: Callable[[Sample], str]) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[key(sample)].append(sample)
    return groups


def _is_torn(samples: Sequence[Sample]) -> bool:
    return len({sample.split for sample in samples}) > 1
