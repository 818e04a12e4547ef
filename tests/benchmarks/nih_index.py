"""An index of NIH's adults for training, by NIH's own labels: No Finding against Pneumonia.

    python -m tests.benchmarks.nih_index NIH OUT.csv

NIH holds `index.csv` and `boxes.csv`. A patient of whom any image has a class or a box of RSNA's readers judges and is
left out whole: those marks are for academic use. All rows are `train_only`.
"""

import csv
import sys
from pathlib import Path

COLUMNS = ("path", "label", "subtype", "patient", "split", "view", "age", "source")


def main() -> None:
    """Write the rows and count them."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    records = _rows(folder / "index.csv")
    boxed = {row["image"] for row in _rows(folder / "boxes.csv")}
    judges = {r["patient"] for r in records if r["rsna_class"] or Path(r["path"]).stem in boxed}
    rows = [row for record in records if record["patient"] not in judges and (row := _row(record))]
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    sys.stdout.write(f"{len(rows)} images, {sum(row[1] == 'pneumonia' for row in rows)} with pneumonia\n")


def _row(record: dict[str, str]) -> tuple[str, ...] | None:
    """One image, or None where NIH's labels say neither normal nor pneumonia."""
    found = set(record["nih_labels"].split("|"))
    if found == {"No Finding"}:
        label = "normal"
    elif "Pneumonia" in found:
        label = "pneumonia"
    else:
        return None
    patient = f"nih-{record['patient']}"
    return (record["path"], label, f"adult {label}", patient, "train_only", record["view"], record["age"], "NIH")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
