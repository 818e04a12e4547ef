"""What a model reads: the lungs, or what lies around them. Flags of images whose surroundings were exchanged.

    python -m tests.benchmarks.surroundings MODEL... --data DIR --split-manifest FILE --out FILE

Normals of the external `choose` images and held-out normals of the training hospital exchange what is not lung (the
lung net's outline with a margin of 2 %, softly), or their grey values alone (histogram); held-out pneumonias get those
of held-out normals. No label changes by that. DIR holds `kermany`. Shares with Wilson's 95 % intervals, each at the
model's own threshold.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.cli.options import load_keras
from trainer.data.augment import match_histogram
from trainer.data.folders import read_samples
from trainer.data.manifest import Sample, read_manifest
from trainer.statistics.metrics import proportion
from worker.imaging.image_file import read_display
from worker.imaging.preprocess import Preprocessing, apply
from worker.inference.model import open_model

Image = NDArray[np.uint8]
Pair = tuple[Image, Image]  #: an image [H, W] and its lung field, 0 to 255

SIDE, MARGIN, SOFT = 224, 4, 3.0


@click.command()
@click.argument("models", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--split-manifest", type=click.Path(path_type=Path), required=True)
@click.option("--external-index", type=click.Path(path_type=Path), required=True, help="The `choose` images.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(models: tuple[Path, ...], data: Path, split_manifest: Path, external_index: Path, out: Path) -> None:
    """Measure and write OUT."""
    external = data / "kermany" / "external"
    held_out = read_manifest(split_manifest).of("test")
    root = data if (data / held_out[0].path).is_file() else data / "kermany" / "train"
    away = _with_fields(external, read_samples(external, external_index))
    home = _with_fields(root, held_out)[: len(away)]
    sick = _with_fields(root, held_out, label=1)
    groups = {
        "external normals": (away, home),
        "held-out normals": (home, away),
        "held-out pneumonias, by held-out normals": (sick, [home[i % len(home)] for i in range(len(sick))]),
    }
    changes: dict[str, Callable[[Pair, Pair], Image]] = {
        "as they are": lambda mine, _: mine[0],
        "surroundings exchanged": _surroundings_of,
        "grey values exchanged": lambda mine, other: match_histogram(mine[0], other[0]),
        "both exchanged": lambda mine, other: match_histogram(_surroundings_of(mine, other), other[0]),
    }
    found: dict[str, Any] = {"command": "python -m tests.benchmarks.surroundings MODEL... --data DIR ..."}
    for path in models:
        model = open_model(path, "cpu", threads=2)
        threshold = model.card.operating_point.threshold
        found[model.card.name] = {"model_digest": model.digest, "threshold": threshold}
        for name, (mine, others) in groups.items():
            for change, made in changes.items():
                seen = [made(a, b) for a, b in zip(mine, others, strict=True)]
                grids = np.stack([apply(image, model.card.preprocessing)[0] for image in seen])
                probabilities = [p.probability for p in model.predict(grids)]
                flagged = proportion(sum(p >= threshold for p in probabilities), len(seen))
                found[model.card.name][f"{name}, {change}"] = {
                    "flagged": [round(float(v), 4) for v in flagged],
                    "median probability": round(float(np.median(probabilities)), 4),
                }
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _with_fields(root: Path, samples: tuple[Sample, ...], label: int = 0) -> list[Pair]:
    """The samples of this label with their lung fields."""
    load_keras()
    from trainer.recipes.lung_net import lung_fields, read_lung_net

    grid = Preprocessing(size=SIDE)
    images = [
        apply(read_display((root / s.path).read_bytes()).pixels, grid)[0][:, :, 0] for s in samples if s.label == label
    ]
    fields = lung_fields(read_lung_net(SIDE), np.stack(images))
    return list(zip(images, fields, strict=True))


def _surroundings_of(mine: Pair, other: Pair) -> Image:
    """My lungs in the other's surroundings."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * MARGIN + 1, 2 * MARGIN + 1))
    inside = cv2.GaussianBlur(cv2.dilate((mine[1] > 127).astype(np.float32), kernel), (0, 0), SOFT)
    return np.asarray(np.rint(mine[0] * inside + other[0] * (1 - inside)), np.uint8)


if __name__ == "__main__":
    main()
