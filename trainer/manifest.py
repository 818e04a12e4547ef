"""Which images there are, whose they are, and which split each belongs to. Reads folders and CSV files, no pixels.

A split never tears a patient apart: patients, persons named by a Kermany file name and byte-identical sources are
joined into groups, and groups are dealt out whole, by class, in an order that only the seed decides.
"""

import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from worker.errors import BadData
from worker.modelcard import Population

#: Folder or CSV label (lower case) -> class; 1 is what the model flags. The last two are `worker review` verdicts.
LABELS = {"normal": 0, "pneumonia": 1, "no_pneumonia": 0}

IMAGE_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".dcm", ".dicom"})

#: Share of the images that each split gets.
SHARES = {"train": 0.80, "validation": 0.08, "test": 0.12}
LEFT_OUT = "left_out"

COLUMNS = ("path", "label", "subtype", "patient", "group", "source_sha256", "split")

#: Kermany file names -> patient. A pneumonia number counts persons within bacteria and within virus.
KERMANY_NAMES = (
    (re.compile(r"person(?P<number>\d+)_(?P<kind>bacteria|virus)_\d+"), "{kind}-{number}"),
    (re.compile(r"NORMAL2-IM-(?P<number>\d+)-"), "N2-{number}"),
    (re.compile(r"IM-(?P<number>\d+)-"), "IM-{number}"),
)
#: Whether person 1000 of bacteria is person 1000 of virus is written nowhere: they are kept together.
PERSON = re.compile(r"person(\d+)_([a-z]+)_")


@dataclass(frozen=True)
class Sample:
    """One labelled image file."""

    path: str  #: relative to the manifest's root, with forward slashes
    label: int  #: 1: pneumonia
    subtype: str  #: such as bacteria, virus; the label's name where none is known
    patient: str
    source_sha256: str  #: of the file as published, else of the file itself
    group: str = ""  #: patients that must stay together; set by `split`
    split: str = ""  #: train, validation, test or left_out; set by `split`


@dataclass(frozen=True)
class Origin:
    """Whose images these are, for the card."""

    population: Population = Population("not stated")
    attribution: str = ""  #: of the images that travel in the model as goldens


@dataclass(frozen=True)
class Manifest:
    """The samples of one data set, dealt out."""

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


def read_samples(data: Path, index: Path | None = None) -> tuple[Sample, ...]:
    """Every image under the folder `data` with its label and patient, in the order of paths.

    `index` (else `index.csv` in `data` or its parent) has the columns path, label, patient and, if known, subtype and
    source_sha256. A row belongs to the file whose last two path parts it names, so that an index serves copies of a
    data set too. A file without a row takes its label from its folder and its patient from a Kermany name. Raises
    BadData, naming the file.
    """
    if not data.is_dir():
        raise BadData("is not a folder: give the folder that holds the images").about(str(data))
    rows = _index_rows(index or _find_index(data))
    files = sorted(p for p in data.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not files:
        raise BadData(f"holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})").about(str(data))
    return tuple(_sample(path, data, rows.get(_tail(path.as_posix()))) for path in files)


def read_left_out(path: Path) -> tuple[Sample, ...]:
    """The samples of a folder, or the rows of a CSV with the columns path, label, patient: whom to keep out."""
    if path.is_dir():
        return read_samples(path)
    rows = _index_rows(path).values()
    return tuple(Sample(row["path"], 0, "", row["patient"], row.get("source_sha256") or "") for row in rows)


def limit(samples: Sequence[Sample], count: int, seed: int) -> tuple[Sample, ...]:
    """About `count` of the samples, half of each class as far as there are, whole patients in the seed's order."""
    chosen: list[Sample] = []
    ordered = sorted(samples, key=lambda s: (_shuffle_key(seed, s.patient), s.path))
    for label in (0, 1):
        chosen += [sample for sample in ordered if sample.label == label][: max(1, count // 2)]
    return tuple(sorted(chosen, key=lambda s: s.path))


def split(samples: Sequence[Sample], seed: int, left_out: Iterable[Sample] = ()) -> Manifest:
    """Deal the samples out to train, validation and test (SHARES), by class and subtype, groups whole.

    Every group that shares a patient, a person or a source with `left_out` goes to the split of that name. Raises
    BadData when a split would lack a class.
    """
    left_out = tuple(left_out)
    groups = _groups((*samples, *left_out))
    excluded = {groups[key] for sample in left_out for key in _keys(sample)}
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        group = groups[_keys(sample)[0]]
        members[group].append(replace(sample, group=group))
    dealt = []
    strata: dict[str, list[str]] = defaultdict(list)
    for group, inside in members.items():
        if group in excluded:
            dealt += [replace(s, split=LEFT_OUT) for s in inside]
        else:
            strata["+".join(sorted({s.subtype for s in inside}))].append(group)
    for stratum in sorted(strata):
        dealt += _deal([members[g] for g in sorted(strata[stratum], key=lambda g: _shuffle_key(seed, g))])
    manifest = Manifest(tuple(sorted(dealt, key=lambda s: s.path)), seed)
    _require_both_classes(manifest)
    return manifest


def write_manifest(manifest: Manifest, path: Path) -> None:
    """As CSV with the columns COLUMNS; the seed and digest stand in a first comment line."""
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# seed={manifest.seed} digest={manifest.digest}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_row(sample) for sample in manifest.samples)


def read_manifest(path: Path) -> Manifest:
    """Inverse of `write_manifest`; raises BadData when the content does not give the digest it names."""
    with path.open(newline="", encoding="utf-8") as file:
        head = re.fullmatch(r"# seed=(-?\d+) digest=([0-9a-f]{64})", file.readline().strip())
        if head is None:
            raise BadData("is no split manifest: its first line should name seed and digest").about(str(path))
        rows = list(csv.DictReader(file))
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
            )
            for row in rows
        )
    except KeyError as error:
        raise BadData(f"lacks a column, or has an unknown label: {error}").about(str(path)) from error
    manifest = Manifest(samples, int(head[1]))
    if manifest.digest != head[2]:
        raise BadData("was changed after it was written: its digest does not match").about(str(path))
    return manifest


def patient_of(name: str) -> str | None:
    """The patient that a Kermany file name tells, or None."""
    for pattern, form in KERMANY_NAMES:
        if found := pattern.match(name):
            return form.format(**found.groupdict())
    return None


def _sample(path: Path, data: Path, row: dict[str, str] | None) -> Sample:
    folder = path.parent.name
    label_name = row["label"] if row else folder
    label = LABELS.get(label_name.lower())
    if label is None:
        raise BadData(f"unknown label {label_name!r}: use one of {', '.join(LABELS)}").about(str(path))
    patient = row["patient"] if row else patient_of(path.name)
    if not patient:
        raise BadData("its patient is unknown: give --index FILE (columns path, label, patient)").about(str(path))
    sha256 = (row or {}).get("source_sha256") or hashlib.sha256(path.read_bytes()).hexdigest()
    named = PERSON.match(path.name)
    subtype = (row or {}).get("subtype") or (named[2] if named else label_name.lower())
    return Sample(path.relative_to(data).as_posix(), label, subtype, patient, sha256)


def _find_index(data: Path) -> Path | None:
    found = (folder / "index.csv" for folder in (data, data.resolve().parent))
    return next((path for path in found if path.is_file()), None)


def _index_rows(index: Path | None) -> dict[str, dict[str, str]]:
    if index is None:
        return {}
    if not index.is_file():
        raise BadData("no such index file").about(str(index))
    with index.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"path", "label", "patient"} - set(reader.fieldnames or ())
        if missing:
            raise BadData(f"lacks the column(s) {', '.join(sorted(missing))}").about(str(index))
        rows: dict[str, dict[str, str]] = {}
        for row in reader:
            known = rows.setdefault(_tail(row["path"]), row)
            if (known["label"], known["patient"]) != (row["label"], row["patient"]):
                raise BadData(f"two rows for {_tail(row['path'])!r} disagree").about(str(index))
    return rows


def _tail(path: str) -> str:
    return "/".join(path.replace("\\", "/").split("/")[-2:])


def _keys(sample: Sample) -> list[str]:
    """What ties a sample to others; the patient comes first."""
    keys = [f"patient:{sample.patient}"]
    if sample.source_sha256:
        keys.append(f"source:{sample.source_sha256}")
    if person := PERSON.match(sample.path.rsplit("/", 1)[-1]):
        keys.append(f"person:{person[1]}")
    return keys


def _groups(samples: Iterable[Sample]) -> dict[str, str]:
    """Key -> name of its group: the smallest patient key that it is tied to, through any chain of samples."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for sample in samples:
        first, *rest = _keys(sample)
        for key in rest:
            low, high = sorted((root(first), root(key)))
            parent[high] = low  # "patient:" sorts before "person:" and "source:"
    return {key: root(key).removeprefix("patient:") for key in list(parent)}


def _shuffle_key(seed: int, group: str) -> str:
    """Orders groups at random, and the same way whatever other groups there are."""
    return hashlib.sha256(f"{seed}:{group}".encode()).hexdigest()


def _deal(groups: Sequence[Sequence[Sample]]) -> list[Sample]:
    """Fill test, then validation, up to their share of the images; the rest trains."""
    total = sum(map(len, groups))
    quota = {name: SHARES[name] * total for name in ("test", "validation")}
    dealt: list[Sample] = []
    for group in groups:
        name = next((name for name, left in quota.items() if left >= len(group) / 2), "train")
        if name != "train":
            quota[name] -= len(group)
        dealt += [replace(sample, split=name) for sample in group]
    return dealt


def _require_both_classes(manifest: Manifest) -> None:
    for name in SHARES:
        present = {sample.label for sample in manifest.of(name)}
        for label_name, label in list(LABELS.items())[:2]:
            if label not in present:
                raise BadData(f"the {name} split holds no {label_name!r} image: more patients of that class are needed")


def _row(sample: Sample) -> tuple[str, ...]:
    name = "pneumonia" if sample.label else "normal"
    return (sample.path, name, sample.subtype, sample.patient, sample.group, sample.source_sha256, sample.split)
