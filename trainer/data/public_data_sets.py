"""Indexes for published data sets from their own tables: RSNA Pneumonia Detection 2018, and NIH ChestX-ray14.

Both hold images of the same patients: RSNA chose its images from NIH's. With RSNA's mapping they have the same patient
here, so that no patient is in two splits when both are read. Reads tables and names of files, no image.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from trainer.data.atomic_file import write_atomically
from trainer.data.image_files import image_files
from worker.errors import BadData

#: Columns of the index, as `read_samples` takes them; and of the boxes, whose numbers are fractions of the side.
INDEX_COLUMNS = ("path", "label", "subtype", "patient", "split", "view", "age", "source")
BOX_COLUMNS = ("image", "finding", "x", "y", "width", "height")

#: Side in pixels of the images that the boxes of both sets are drawn on.
SIDE_PX = 1024

#: Ages above this are known errors of NIH's table (414 years).
OLDEST_YEARS = 120

RSNA_LABELS, RSNA_CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
RSNA_MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
NIH_ENTRIES, NIH_BOXES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv"), "BBox_List_2017.csv"
NIH_SPLITS = {"train_val_list.txt": "train", "test_list.txt": "test"}

#: RSNA's class -> (label, subtype). The second is negative: neither of pneumonia's opacities nor normal.
RSNA_MEANING = {
    "Normal": ("normal", "normal"),
    "No Lung Opacity / Not Normal": ("no_pneumonia", "not normal, no lung opacity"),
    "Lung Opacity": ("pneumonia", "lung opacity"),
}


@dataclass
class Published:
    """The rows of an index and of the boxes, and how many images are left out, by reason."""

    rows: list[dict[str, str]] = field(default_factory=list)
    boxes: list[tuple[str, ...]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_rsna(folder: Path) -> Published:
    """RSNA Pneumonia Detection Challenge, stage 2: its two tables and, if it lies beside them, the mapping to NIH."""
    found, files = Published(), _images(folder)
    patients = _nih_patients(folder)
    classes = {row["patientId"]: row["class"] for row in _table(_existing(folder, RSNA_CLASSES), "patientId", "class")}
    columns = ("patientId", "x", "y", "width", "height", "Target")
    by_image: dict[str, list[dict[str, str]]] = {}
    labels = _existing(folder, RSNA_LABELS)
    for row in _table(labels, *columns):
        by_image.setdefault(row["patientId"], []).append(row)
    for name, rows in by_image.items():
        meaning = RSNA_MEANING.get(classes.get(name, ""))
        if meaning is None or (meaning[0] == "pneumonia") != (rows[0]["Target"] == "1"):
            raise BadData(f"the tables disagree about {name}: class {classes.get(name)!r}, Target {rows[0]['Target']}")
        if name not in files:
            found.left_out["without an image"] += 1
            continue
        label, subtype = meaning
        patient = patients.get(name, f"rsna-{name}")  # view and age come from the DICOM header
        found.rows.append(_row(path=files[name], label=label, subtype=subtype, patient=patient, source="RSNA 2018"))
        corners = [[row[name] for name in columns[1:5]] for row in rows if row["x"]]
        with _numbers_of(name, labels):
            found.boxes += [(name, "RSNA lung opacity", *_fractions(each)) for each in corners]
    return found


def read_nih(folder: Path) -> Published:
    """NIH ChestX-ray14 by its own labels: No Finding against Pneumonia; images with only other findings stay out."""
    found, files = Published(), _images(folder)
    splits = {name: split for table, split in NIH_SPLITS.items() for name in _lines(folder / table)}
    columns = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position")
    table = _existing(folder, *NIH_ENTRIES)
    for entry in _table(table, *columns):
        name, findings = entry["Image Index"], set(entry["Finding Labels"].split("|"))
        label = "normal" if findings == {"No Finding"} else ""
        if "Pneumonia" in findings:
            label = "pneumonia"
        stem = Path(name).stem
        if not label or stem not in files:
            found.left_out["without an image" if label else "with other findings only"] += 1
            continue
        with _numbers_of(name, table):
            patient, age = _patient(entry["Patient ID"]), _age(entry["Patient Age"])
        found.rows.append(
            _row(
                path=files[stem], label=label, patient=patient, split=splits.get(name, ""),
                view=entry["View Position"], age=age, source="NIH ChestX-ray14",
            )
        )  # fmt: skip
    kept = {Path(row["path"]).stem for row in found.rows}
    boxes = folder / NIH_BOXES
    entries = _table(boxes, "Image Index", "Finding Label") if boxes.is_file() else []
    for entry in entries:
        name = Path(entry["Image Index"]).stem
        if entry["Finding Label"] == "Pneumonia" and name in kept:
            with _numbers_of(name, boxes):
                found.boxes.append((name, "NIH pneumonia", *_fractions(_corners(entry))))
    return found


#: Name of a set, as `trainer manifest` takes it -> its reader.
SETS: dict[str, Callable[[Path], Published]] = {"rsna": read_rsna, "nih": read_nih}


def write_index(found: Published, index: Path) -> Path | None:
    """Write the index and, if there are boxes, `boxes.csv` beside it, whose path is returned.

    Raises BadData, and writes neither, where one of these names belongs to a file that this did not write.
    """
    boxes = index.with_name("boxes.csv")
    _require_ours(index, INDEX_COLUMNS)
    if found.boxes:
        _require_ours(boxes, BOX_COLUMNS)
    _write(index, INDEX_COLUMNS, ([row[name] for name in INDEX_COLUMNS] for row in found.rows))
    if not found.boxes:
        return None
    _write(boxes, BOX_COLUMNS, found.boxes)
    return boxes


def _require_ours(path: Path, columns: Sequence[str]) -> None:
    if path.is_file() and path.read_bytes().split(b"\n")[0] != ",".join(columns).encode():
        raise BadData("is there already, with other columns: move it, or give --out another folder").about(str(path))


def _row(**values: str) -> dict[str, str]:
    return dict.fromkeys(INDEX_COLUMNS, "") | values


def _images(folder: Path) -> dict[str, str]:
    """Name without suffix -> path below the folder, of every image; raises BadData without any."""
    found = {path.stem: path.relative_to(folder).as_posix() for path in image_files(folder)}
    if not found:
        raise BadData("holds no image: give the folder with the set's tables and images").about(str(folder))
    return found


def _existing(folder: Path, *names: str) -> Path:
    """The first of these tables that lies in the folder."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise BadData(f"lacks the set's table {' or '.join(names)}: put it there").about(str(folder))


def _table(path: Path, *columns: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV that has these columns; NIH's tables have nameless ones, too, at the end of a line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData("is not text in UTF-8: take the table as it was published").about(str(path)) from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise BadData(f"lacks the column(s) {', '.join(missing)}").about(str(path))
    for row in reader:
        yield {
            name: value or "" for name, value in row.items() if isinstance(name, str) and not isinstance(value, list)
        }


def _nih_patients(folder: Path) -> dict[str, str]:
    """RSNA's name of an image -> NIH's patient; empty without the mapping."""
    path = folder / RSNA_MAPPING
    if not path.is_file():
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {entry["subset_img_id"]: _patient(entry["img_id"].split("_")[0]) for entry in entries}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadData(f"is not RSNA's mapping ({error!r})").about(str(path)) from error


def _patient(number: str) -> str:
    """The patient's name; raises ValueError where the number is none."""
    return f"nih-{int(number)}"


def _age(text: str) -> str:
    """Years from `58` or `058Y`; empty where NIH's table is known to be wrong. Raises ValueError."""
    unit = {"M": 1 / 12, "D": 1 / 365.25}.get(text[-1:].upper(), 1.0)
    years = float(text.rstrip("YMDymd") or "nan") * unit
    return f"{years:g}" if years <= OLDEST_YEARS else ""


@contextmanager
def _numbers_of(name: str, table: Path) -> Iterator[None]:
    """Name the table and the image whose row holds a text in place of a number, as one that was cut off does."""
    try:
        yield
    except ValueError as error:
        raise BadData(f"the row of {name} is damaged ({error}): take the table as it was published").about(
            str(table)
        ) from error


def _corners(entry: dict[str, str]) -> list[str]:
    """x, y, width, height; the table's header spreads them over the columns `Bbox [x`, `y`, `w`, `h]`."""
    return [entry[name] for name in ("Bbox [x", "y", "w", "h]")]


def _fractions(corners: Sequence[str]) -> list[str]:
    return [f"{float(value) / SIDE_PX:.5f}" for value in corners]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split() if path.is_file() else []


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomically(text.getvalue().encode(), path)
