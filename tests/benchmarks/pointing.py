"""Whether a model's heat map points at lungs and at what readers boxed; and which images have no lung field.

    python -m tests.benchmarks.pointing MODEL --data DIR --split-manifest FILE --out FILE

DIR holds `kermany/external`, `kermany/native`, `nih` and `dicom`. Boxes: RSNA's lung opacity and NIH's pneumonia on 93
adult images, which judge and never train. The hottest point and the map are those that are served, enlarged linearly.
Energy inside the lungs is measured against the model's own lung field. 95 % intervals: Wilson for shares, bootstrap
over patients for means.
"""

import csv
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.folders import read_samples
from trainer.data.manifest import Sample, read_manifest
from trainer.evaluation.non_radiographs import generate
from trainer.statistics import metrics
from trainer.statistics.paired import mean_difference
from worker.errors import Rejected
from worker.imaging.image_file import read_display
from worker.imaging.preprocess import apply
from worker.inference.lung_field import INSIDE, implausible
from worker.inference.model import Model, open_model
from worker.inference.prediction import Prediction

Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]

#: Of each generated kind, and of the held-out images that are turned.
COUNT = 100


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--split-manifest", type=click.Path(path_type=Path), required=True)
@click.option("--external-index", type=click.Path(path_type=Path), help="Which of the external images; default: all.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(model: Path, data: Path, split_manifest: Path, external_index: Path | None, out: Path) -> None:
    """Measure and write OUT."""
    opened = open_model(model, "cpu", threads=2)
    held_out = read_manifest(split_manifest).of("test")
    root = data if (data / held_out[0].path).is_file() else data / "kermany" / "train"
    external = read_samples(data / "kermany" / "external", external_index)
    children = {"held-out": (root, held_out), "external": (data / "kermany" / "external", external)}
    found = {
        "command": f"python -m tests.benchmarks.pointing {model.name} --data DIR --split-manifest FILE --out FILE",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_digest": opened.digest,
        "boxes": boxes(opened, data / "nih"),
        "energy inside lungs, positives": {name: inside_lungs(opened, *each) for name, each in children.items()},
        "no lung field": fields(opened, data, {name: grids(opened, *each) for name, each in children.items()}),
    }
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def boxes(model: Model, nih: Path) -> dict[str, Any]:
    """The pointing game and the energy in boxes, all boxed images."""
    drawn: dict[str, list[Box]] = defaultdict(list)
    for row in _rows(nih / "boxes.csv"):
        drawn[row["image"]].append(tuple(float(row[side]) for side in ("x", "y", "width", "height")))  # type: ignore[arg-type]
    records = [row for row in _rows(nih / "index.csv") if Path(row["path"]).stem in drawn]
    hits, energies, areas = [], [], []
    for record in records:
        prediction = model.predict(_grid(model, nih / record["path"])[None, ..., None])[0]
        heat = _enlarged(prediction, model)
        inside = _inside(drawn[Path(record["path"]).stem], len(heat))
        hits.append(bool(inside[np.unravel_index(int(heat.argmax()), heat.shape)]))
        energies.append(float(heat[inside].sum() / max(float(heat.sum()), 1e-9)))
        areas.append(float(inside.mean()))
    patients = [record["patient"] for record in records]
    return {
        "n": len(records),
        "hottest point in a box": _told(metrics.proportion(sum(hits), len(hits))),
        "energy in boxes": _mean(energies, patients),
        "area of boxes": _mean(areas, patients),
    }


def inside_lungs(model: Model, root: Path, samples: Iterable[Sample]) -> Any:
    """The share of the heat that lies in the lungs, mean over the positives."""
    shares, patients = [], []
    for sample, prediction in predicted(model, root, [s for s in samples if s.label == 1]):
        if prediction.lungs is None:
            return "the model gives no lung field"
        heat = _enlarged(prediction, model)
        lungs = cv2.resize(prediction.lungs, heat.shape) >= INSIDE
        shares.append(float(heat[lungs].sum() / max(float(heat.sum()), 1e-9)))
        patients.append(sample.patient)
    return _mean(shares, patients)


def fields(model: Model, data: Path, seen: dict[str, list[Image]]) -> dict[str, Any]:
    """How many images of each kind have no plausible lung field, by the limits of the card."""
    limits = model.card.field_limits
    if limits is None:
        return {"not measured": "the card has no limits of a lung field"}
    kinds: dict[str, list[Image]] = {
        **seen,
        **{f"{name}, a quarter turn": [np.rot90(g).copy() for g in each[:COUNT]] for name, each in seen.items()},
        **{f"{name}, upside down": [np.rot90(g, 2).copy() for g in each[:COUNT]] for name, each in seen.items()},
        **{f"{name}, left half cut off": [_without_left(g) for g in each[:COUNT]] for name, each in seen.items()},
        "NIH adults": [_grid(model, data / "nih" / row["path"]) for row in _rows(data / "nih" / "index.csv")],
        "hip, extremity, mammogram (WG04)": list(_others(model, data / "dicom" / "wg04")),
        "photograph-like": [_applied(model, image) for image in generate("photograph-like", COUNT)],
        "clouds": [_applied(model, image) for image in generate("clouds", COUNT)],
        "text pages": [_applied(model, image) for image in generate("text page", COUNT)],
    }
    told = {}
    for name, images in kinds.items():
        reasons: dict[str, int] = defaultdict(int)
        unflagged = 0
        for prediction in model.predict(np.stack(images)[..., None]):
            assert prediction.lungs is not None
            if reason := implausible(prediction.lungs, limits):
                reasons[reason.split()[2]] += 1
                unflagged += prediction.probability < model.card.operating_point.threshold
        told[name] = {
            "without": _told(metrics.proportion(sum(reasons.values()), len(images))),
            "of these not flagged, so unscreenable": unflagged,
            "by trait": dict(reasons),
        }
    return told


def grids(model: Model, root: Path, samples: Iterable[Sample]) -> list[Image]:
    """The samples on the model's grid."""
    return [_grid(model, root / sample.path) for sample in samples]


def predicted(model: Model, root: Path, samples: Iterable[Sample]) -> Iterable[tuple[Sample, Prediction]]:
    """Each sample with what the model says of it."""
    for sample in samples:
        yield sample, model.predict(_grid(model, root / sample.path)[None, ..., None])[0]


def _others(model: Model, folder: Path) -> Iterable[Image]:
    for path in sorted(folder.glob("*")):
        if path.name.startswith("RG1"):
            continue  # a chest
        try:
            yield _grid(model, path)
        except Rejected as error:
            sys.stderr.write(f"{path.name}: {error.message}\n")


def _grid(model: Model, path: Path) -> Image:
    return _applied(model, read_display(path.read_bytes()).pixels)


def _applied(model: Model, pixels: Image) -> Image:
    return np.asarray(apply(pixels, model.card.preprocessing)[0][:, :, 0], np.uint8)


def _without_left(grid: Image) -> Image:
    """The right half alone, stretched: half of the chest is not in the picture."""
    half = grid[:, grid.shape[1] // 2 :]
    return np.asarray(cv2.resize(half, grid.shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _enlarged(prediction: Prediction, model: Model) -> NDArray[np.float32]:
    side = model.card.preprocessing.size
    return np.asarray(cv2.resize(prediction.heatmap, (side, side), interpolation=cv2.INTER_LINEAR), np.float32)


def _inside(drawn: Iterable[Box], side: int) -> NDArray[np.bool_]:
    inside = np.zeros((side, side), bool)
    for x, y, width, height in drawn:
        inside[round(y * side) : round((y + height) * side), round(x * side) : round((x + width) * side)] = True
    return inside


def _mean(values: list[float], patients: list[str]) -> list[float]:
    _, groups = np.unique(patients, return_inverse=True)
    told = mean_difference(np.zeros(len(values)), np.array(values), groups)
    return [round(float(number), 4) for number in told]


def _told(measured: metrics.Measured) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in measured._asdict().items()}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
