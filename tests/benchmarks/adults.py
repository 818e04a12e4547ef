"""How a model of children does on adults, with and without adult images in training: NIH ChestX-ray14, by view.

    python -m tests.benchmarks.adults MODEL --data DIR --split-manifest FILE --weights FILE --out RUNS [--epochs 1,2]

DIR holds `kermany/train` and `nih`. MODEL never saw an adult. A second fit trains on the same children and half of the
adult patients; both are measured on the other half. Labels: the readers' of RSNA (Normal, Lung Opacity) where there
are any, else NIH's, mined from reports and noisy; the two are different sources in the index.
"""

import argparse
import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.data.folders import read_samples
from trainer.data.manifest import Sample, read_manifest
from trainer.data.split import shuffle_key
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.model_file import open_on_all_cores
from trainer.progress import reporting, silent
from trainer.recipes import recipe_named
from trainer.run.run import FitOptions, run

RESULT = Path(__file__).parent / "results" / "adults.json"

CHILDREN, ADULTS = "kermany/train", "nih"

READ = {"Normal": "normal", "Lung Opacity": "pneumonia"}


def main() -> None:
    """Write the joint index, train on it, measure both models, write RESULT."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split-manifest", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", default="1,2")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    index = asked.out / "joint.csv"
    write_index(asked.data, asked.split_manifest, index)
    recipe = recipe_named("mobilenetv2_house").lasting([int(number) for number in asked.epochs.split(",")])
    order = FitOptions(asked.data, recipe, asked.out / "with_adults", index=index, weights=asked.weights)
    order.out.mkdir(parents=True, exist_ok=True)
    with reporting(order.out / "log.jsonl") as report:
        joint = run(order, report)
    tested = [sample for sample in read_samples(asked.data, index) if sample.split == "test"]
    adults = [sample for sample in tested if sample.path.startswith(ADULTS)]
    groups = {
        "children": [sample for sample in tested if sample.path.startswith(CHILDREN)],
        "adults, read by RSNA": [sample for sample in adults if sample.source == "RSNA readers"],
        "adults, NIH's labels": [sample for sample in adults if sample.source == "NIH labels"],
    }
    result = {
        "command": f"python -m tests.benchmarks.adults {asked.model.name} --epochs {asked.epochs} ...",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "without adults": _measured(asked.model, asked.data, groups),
        f"with adults ({recipe.title})": _measured(joint, asked.data, groups),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def write_index(data: Path, children: Path, path: Path) -> None:
    """A CSV of both: the children as in the split manifest, half of the adult patients for training."""
    rows = [
        (
            f"{CHILDREN}/{s.path}",
            s.subtype if s.label else "normal",
            s.label,
            s.patient,
            s.source_sha256,
            s.split,
            "",
            "",
            "",
        )
        for s in read_manifest(children).samples
    ]
    with (data / ADULTS / "index.csv").open(newline="", encoding="utf-8") as file:
        rows += [row for record in csv.DictReader(file) if (row := _adult(record))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "subtype", "label", "patient", "source_sha256", "split", "view", "age", "source"))
        writer.writerows((p, kind, ("normal", "pneumonia")[label], *rest) for p, kind, label, *rest in rows)


def _adult(record: dict[str, str]) -> tuple[Any, ...] | None:
    """The row of one NIH image, or None where its labels say neither normal nor pneumonia."""
    found = set(record["nih_labels"].split("|"))
    if record["rsna_class"]:
        label, source = READ.get(record["rsna_class"]), "RSNA readers"
    elif found == {"No Finding"}:
        label, source = "normal", "NIH labels"
    else:
        label, source = ("pneumonia" if found & {"Pneumonia", "Consolidation"} else None), "NIH labels"
    if label is None:
        return None
    patient = f"nih-{record['patient']}"
    split = "train" if int(shuffle_key(0, patient), 16) % 2 else "test"
    view, age = record["view"], record["age"]
    return (
        f"{ADULTS}/{record['path']}",
        f"adult {label}",
        int(label == "pneumonia"),
        patient,
        "",
        split,
        view,
        age,
        source,
    )


def _measured(model: Path, data: Path, groups: dict[str, list[Sample]]) -> dict[str, Any]:
    return {
        name: evaluate(open_on_all_cores(model, "cpu"), data, samples, silent).to_json()
        for name, samples in groups.items()
    }


if __name__ == "__main__":
    main()
