"""Draws the tests of `trainer heat`: their curves, and five images while their hottest pixels are taken away.

python -m deploy.deletion_sheet MODEL SCORES.json --data DIR [--split-manifest FILE --split test] --out FILE
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.cli.labelled import LabelledImages, labelled_images
from trainer.evaluation.heatmap_faithfulness import MAPS, TESTS, grids_of, not_flagged
from trainer.progress import silent
from trainer.statistics.deletion import STEPS, between, closest, random_heat, ranks
from worker.imaging.preprocess import Placement
from worker.inference import overlay as heatmap
from worker.inference.model import Model, open_model

Picture = NDArray[np.uint8]

CELL, GAP, CAPTION_PX, EXAMPLES = 240, 6, 24, 5

#: Of the pixels, how many are gone in an example's columns.
SHOWN = (0.125, 0.25, 0.5)

#: Blue, green, red; told apart by colour-blind eyes too.
COLOURS = dict(zip(MAPS, ((60, 160, 255), (170, 170, 170), (255, 180, 90)), strict=True))
WHITE, GREY, FLOOR = (235, 235, 235), (90, 90, 90), 24
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def chart(
    test: str, curves: Mapping[str, Sequence[float]], areas: Mapping[str, Mapping[str, float]], n: int
) -> Picture:
    """Mean curves of one test: probability from 0 to 1 over the share of pixels that changed."""
    width, height = 3 * CELL + 2 * GAP, CELL
    canvas = np.full((height + 2 * CAPTION_PX, width, 3), FLOOR, np.uint8)
    write(canvas, f"{test}: mean probability of {n} true positives, over the share of pixels changed", 8, 17)
    left, top, right, bottom = 40, CAPTION_PX + 6, width - 12, CAPTION_PX + height - 6
    for part in range(5):
        y = round(bottom + (top - bottom) * part / 4)
        cv2.line(canvas, (left, y), (right, y), GREY, 1)
        write(canvas, f"{part / 4:.2f}", 4, y + 4)
    for number, (name, values) in enumerate(curves.items()):
        across, up = np.linspace(left, right, STEPS + 1), bottom + (top - bottom) * np.asarray(values)
        points = np.rint(np.stack([across, up], axis=1)).astype(np.int32)
        cv2.polylines(canvas, [points], False, COLOURS[name], 2, cv2.LINE_AA)
        write(canvas, f"{name}: area {areas[name]['value']:.3f}", 44 + 210 * number, height + 40, COLOURS[name])
    return canvas


def example(model: Model, image: Picture, normals: Sequence[Picture]) -> Picture:
    """One row: the image, its heat, what is left when the hottest pixels are gone, and where those came from."""
    reference = closest(image, normals)
    (seen,) = model.predict(image[None, ..., None])
    places = ranks(seen.heatmap, random_heat(seen.heatmap.shape, np.random.default_rng(0)), len(image))
    way = between(image, reference, places)
    left = [way[round(share * STEPS) - 1] for share in SHOWN]
    scores = [p.probability for p in model.predict(np.stack([image, *left, reference])[..., None])]
    size = len(image)
    png = heatmap.overlay(image, seen.heatmap, Placement(size, size, size, 1.0, 1.0))
    overlay = np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    titles = [
        f"image: {scores[0]:.2f}",
        "heat",
        *(f"{s:.1%} gone: {p:.2f}" for s, p in zip(SHOWN, scores[1:-1], strict=True)),
    ]
    pictures = [image, overlay, *left, reference]
    cells = [cell(each, title) for each, title in zip(pictures, [*titles, f"normal: {scores[-1]:.2f}"], strict=True)]
    return np.hstack(cells)[:, :-GAP]


def cell(picture: Picture, title: str) -> Picture:
    """A picture below its title, with a gap on its right."""
    colour = picture if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    scale = CELL / max(colour.shape[:2])
    small = cv2.resize(
        colour, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    canvas = np.full((CELL + CAPTION_PX, CELL + GAP, 3), FLOOR, np.uint8)
    canvas[CAPTION_PX : CAPTION_PX + small.shape[0], : small.shape[1]] = small
    write(canvas, title, 4, 17)
    return canvas


def write(canvas: Picture, text: str, left: int, baseline: int, colour: tuple[int, int, int] = WHITE) -> None:
    """Put words on the canvas."""
    cv2.putText(canvas, text, (left, baseline), _FONT, 0.45, colour, 1, cv2.LINE_AA)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("scores", type=click.Path(path_type=Path))
@labelled_images
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Picture to write; its suffix says the kind."
)
def main(
    model: Path,
    scores: Path,
    images: LabelledImages,
    out: Path,
) -> None:
    """Draw what `trainer heat MODEL --json > SCORES` found, and examples spread evenly over the positive images."""
    found: dict[str, Any] = json.loads(scores.read_text(encoding="utf-8"))["groups"]["true positives"]
    opened = open_model(model, images.provider)
    samples = images.samples()
    positives = [sample for sample in samples if sample.label == 1]
    chosen = [positives[int(i)] for i in np.linspace(0, len(positives) - 1, EXAMPLES).round()]
    normals = [sample for sample in samples if sample.label == 0]
    grids, _ = grids_of(opened, images.data, (*chosen, *normals), silent)
    quiet = not_flagged(opened, [grids[sample.path] for sample in normals if sample.path in grids])
    charts = [chart(test, found["curves"][test], found["areas"][test], found["n"]) for test in TESTS]
    wide = np.hstack([charts[0], np.full((len(charts[0]), GAP, 3), FLOOR, np.uint8), charts[1]])
    rows = [example(opened, grids[sample.path], quiet) for sample in chosen if sample.path in grids]
    cv2.imwrite(str(out), np.vstack([wide, *rows]))


if __name__ == "__main__":
    main()
