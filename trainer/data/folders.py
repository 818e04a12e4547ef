"""Labelled images in folders: their labels, patients and stated splits, by folder, index CSV or DICOM header.

Decodes no pixels.
"""

import hashlib
import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trainer.data.image_files import image_files, is_dicom
from trainer.data.index_rows import IndexRows, find_index, read_rows
from trainer.data.manifest import LABELS, LEFT_OUT, TRAIN_ONLY, Sample
from worker.errors import BadData, Rejected
from worker.imaging.image_file import read_instance

#: What folders and CSV files call a split (lower case) -> what it is called here.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}

#: An older patient has a mistyped age.
OLDEST_YEARS = 130

#: Kermany file names -> patient. A pneumonia number counts persons within bacteria and within virus.
KERMANY_NAMES = (
    (re.compile(r"person(?P<number>\d+)_(?P<kind>bacteria|virus)_\d+"), "{kind}-{number}"),
    (re.compile(r"NORMAL2-IM-(?P<number>\d+)-"), "N2-{number}"),
    (re.compile(r"IM-(?P<number>\d+)-"), "IM-{number}"),
)
PERSON = re.compile(r"person(\d+)_([a-z]+)_")


def read_samples(data: Path, index: Path | None = None, is_patient_each: bool = False) -> tuple[Sample, ...]:
    """Every image under the folder `data` with its label and patient, in the order of paths.

    Labels come from class folders, which may lie in split folders (train, val, test) and hold patient folders; or from
    a CSV `index` with the columns path, label and, if known, patient, subtype, source_sha256, split, view, age, source:
    then only the files in its rows are read. An `index.csv` in `data` or its parent is used too, and adds to what the
    folders state; where no folder states a label, only the files in its rows are read. A row belongs to the file with
    its path, or else to the file with the same last two path parts, so an index also fits copies of a data set.
    Patient, view and age that neither states come from the DICOM header; `is_patient_each` treats every remaining file
    as a patient of its own. Raises BadData, naming the file.
    """
    if not data.is_dir():
        raise BadData("is not a folder: give the folder that holds the images").about(str(data))
    found = index or find_index(data)
    rows = IndexRows(found) if found else None
    pairs = [(path, rows.of(path, data) if rows else None) for path in image_files(data)]
    which = ""
    no_folder_states_a_label = all(_class_of(_folders(path, data)) is None for path, _ in pairs)
    if found and (index or no_folder_states_a_label):
        pairs = [(path, row) for path, row in pairs if row]
        which = f" that {found} names"
    if not pairs:
        raise BadData(f"holds no image{which} (DICOM, PNG or JPEG)").about(str(data))
    return tuple(_sample(path, data, row or {}, is_patient_each) for path, row in pairs)


def read_together(parts: Sequence[tuple[Path, Path | None]], is_patient_each: bool = False) -> tuple[Sample, ...]:
    """The samples of several folders, each with its index, as one data set; their paths start from `root_of` them.

    A file that is a patient of its own stays one: files of one name in two folders are two patients.
    """
    root = root_of([folder for folder, _ in parts])
    samples: list[Sample] = []
    for folder, index in parts:
        below = folder.resolve().relative_to(root)
        for sample in read_samples(folder, index, is_patient_each):
            path = (below / sample.path).as_posix()
            patient = path if is_patient_each and sample.patient == sample.path else sample.patient
            samples.append(replace(sample, path=path, patient=patient))
    return tuple(sorted(samples, key=lambda s: s.path))


def root_of(folders: Sequence[Path]) -> Path:
    """The folder above all of these."""
    return Path(os.path.commonpath([folder.resolve() for folder in folders]))


def read_left_out(path: Path, is_patient_each: bool = False) -> tuple[Sample, ...]:
    """The samples to leave out: those of a folder, or the rows of a CSV with the columns path, label, patient.

    With `is_patient_each` a row without a patient leaves out the file at its path, and a file without a patient in a
    folder the files with the same bytes.
    """
    if path.is_dir():
        return tuple(
            replace(s, patient=str(path / s.path)) if is_patient_each and s.patient == s.path else s
            for s in read_samples(path, is_patient_each=is_patient_each)
        )
    rows = read_rows(path)
    patients = [row.get("patient") or (row["path"] if is_patient_each else "") for row in rows]
    if not all(patients):
        raise BadData("names no patient in some of its rows: whose images are left out?").about(str(path))
    return tuple(
        Sample(row["path"], 0, "", patient, row.get("source_sha256") or "")
        for row, patient in zip(rows, patients, strict=True)
    )


def patient_of(name: str) -> str | None:
    """The patient in a Kermany file name, or None."""
    for pattern, form in KERMANY_NAMES:
        if found := pattern.match(name):
            return form.format(**found.groupdict())
    return None


def _subtype_of(name: str, label: int) -> str:
    """Bacteria or virus by a Kermany file name, else the name of the class."""
    person = PERSON.match(name)
    if person:
        return person[2]
    return "pneumonia" if label else "normal"


def _sample(path: Path, data: Path, row: dict[str, str], is_patient_each: bool) -> Sample:
    relative, folders = path.relative_to(data), _folders(path, data)
    try:
        relative.as_posix().encode()
    except UnicodeEncodeError as error:
        raise BadData("its name is not UTF-8, so no list can hold it: rename the file").about(str(path)) from error
    at = _class_of(folders)
    label_name = row.get("label") or folders[-1 if at is None else at]
    label = LABELS.get(label_name.strip().lower())
    if label is None:
        raise BadData(f"unknown label {label_name!r}: use one of {', '.join(LABELS)}").about(str(path))
    below_class = [] if at is None else folders[at + 1 :]
    header = _header(path)
    patient = (
        row.get("patient")
        or (below_class[0] if below_class else None)
        or patient_of(path.name)
        or header.get("patient")
        or (relative.as_posix() if is_patient_each else None)
    )
    if not patient:
        raise BadData(
            "its patient is unknown: give --index FILE (columns path, label, patient), put each patient's images into a"
            " folder below the class, or say --each-file-a-patient"
        ).about(str(path))
    return Sample(
        path=relative.as_posix(),
        label=label,
        subtype=row.get("subtype") or _subtype_of(path.name, label),
        patient=patient,
        source_sha256=row.get("source_sha256") or hashlib.sha256(path.read_bytes()).hexdigest(),
        split=_stated_split(row, folders, path),
        view=row.get("view") or header.get("view") or "",
        age_years=_age(row.get("age") or header.get("age") or "", path),
        source=row.get("source") or "",
        style=row.get("style") or "",
    )


def _folders(path: Path, data: Path) -> list[str]:
    """The names of the folders that a file lies in, from the top; `data` itself where there is none below it."""
    return [*path.relative_to(data).parts[:-1]] or [data.name]


def _class_of(folders: Sequence[str]) -> int | None:
    """Which of these folders states a label: the innermost; None if none does."""
    return next((i for i in reversed(range(len(folders))) if folders[i].lower() in LABELS), None)


def _header(path: Path) -> dict[str, str]:
    """Patient, view and age of a DICOM file; empty for other files; a placeholder patient if it cannot be read."""
    if not is_dicom(path):
        return {}
    try:
        instance = read_instance(path.read_bytes())
    except Rejected:
        return {"patient": f"of unreadable {path.name}"}
    age = "" if instance.age_years is None else f"{instance.age_years:g}"
    return {"patient": instance.patient_id or "", "view": instance.view or "", "age": age}


def _stated_split(row: dict[str, str], folders: Sequence[str], path: Path) -> str:
    if stated := row.get("split", "").strip():
        if stated.lower() == TRAIN_ONLY:
            return TRAIN_ONLY
        if stated.lower() not in (*SPLITS, LEFT_OUT):
            raise BadData(f"unknown split {stated!r}: use train, train_only, validation or test").about(str(path))
        return SPLITS.get(stated.lower(), LEFT_OUT)
    return next((SPLITS[name.lower()] for name in folders if name.lower() in SPLITS), "")


def _age(text: str, path: Path) -> float | None:
    """Years, from `61`, `61.5` or DICOM's `061Y`; None when not stated."""
    text = text.strip().upper()
    if not text:
        return None
    unit = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}.get(text[-1])
    try:
        years = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        years = math.nan
    if not 0 <= years <= OLDEST_YEARS:
        raise BadData(f"unknown age {text!r}: use years, such as 61").about(str(path))
    return years
