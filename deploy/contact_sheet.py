"""A contact sheet of heat maps from a state folder, so that a person can see at a glance where the heat lies.

SCREENING_HOME=FOLDER python -m deploy.contact_sheet [--out FILE] [--each N]
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

SHEET = Path(__file__).parent / "pictures" / "heatmaps.jpg"

#: At most this many bytes: the sheet lies in the repository.
LARGEST_BYTES = 400_000

COLUMNS, CELL_W, CELL_H, CAPTION_PX = 4, 380, 320, 26
_FONT = cv2.FONT_HERSHEY_SIMPLEX

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """One study of the sheet."""

    overlay: Path
    file: str
    verdict: str
    probability: float


def worklist() -> list[dict[str, Any]]:
    """The worklist of the state folder in force, by the program itself."""
    command = [sys.executable, "-m", "worker", "worklist", "--json", "--limit", "1000000"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        sys.exit(f"`worker worklist` ended with {ended.returncode}: {ended.stderr.strip()}")
    entries: list[dict[str, Any]] = json.loads(ended.stdout)
    return entries


def choose(entries: Sequence[dict[str, Any]], each: int) -> list[Shown]:
    """`each` flagged and as many not flagged studies, evenly spread over their probabilities; none is picked by eye."""
    chosen = []
    for verdict in ("flagged", "not_flagged"):
        found = [e for e in entries if e["verdict"] == verdict and e["heatmap"]]
        found.sort(key=lambda e: (-e["probability"], e["study_uid"]))
        for i in np.unique(np.linspace(0, len(found) - 1, min(each, len(found))).round()) if found else ():
            entry = found[int(i)]
            file = Path(entry["sources"][0]).name
            chosen.append(Shown(Path(entry["heatmap"]), file, verdict.replace("_", " "), entry["probability"]))
    return chosen


def sheet(shown: Sequence[Shown]) -> Picture:
    """The overlays in rows of four, each with its file name, verdict and probability above it."""
    cells = [cell(each) for each in shown]
    rows = [cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)]
    blank = np.full((CELL_H + CAPTION_PX, CELL_W, 3), 24, np.uint8)
    return np.vstack([np.hstack([*row, *[blank] * (COLUMNS - len(row))]) for row in rows])


def cell(shown: Shown) -> Picture:
    """One overlay, reduced to its cell; raises SystemExit when it cannot be read."""
    overlay = cv2.imread(str(shown.overlay), cv2.IMREAD_COLOR)
    if overlay is None:
        sys.exit(f"{shown.overlay} cannot be read: is SCREENING_HOME the folder that was screened?")
    scale = min((CELL_W - 6) / overlay.shape[1], (CELL_H - 6) / overlay.shape[0])
    small = cv2.resize(overlay, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.full((CELL_H + CAPTION_PX, CELL_W, 3), 24, np.uint8)
    top, left = CAPTION_PX + (CELL_H - small.shape[0]) // 2, (CELL_W - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    caption = f"{shown.file[:30]}  {shown.verdict}  {shown.probability:.3f}"
    cv2.putText(canvas, caption, (6, 18), _FONT, 0.42, (235, 235, 235), 1, cv2.LINE_AA)
    return canvas


def encode(picture: Picture) -> bytes:
    """JPEG in the best quality that stays below the limit."""
    for quality in range(90, 30, -5):
        data = bytes(cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, quality))[1])
        if len(data) <= LARGEST_BYTES:
            return data
    sys.exit(f"the sheet does not fit into {LARGEST_BYTES:,} bytes: choose fewer with --each")


@click.command()
@click.option("--out", default=SHEET, show_default="deploy/pictures/heatmaps.jpg", type=click.Path(path_type=Path))
@click.option("--each", default=6, show_default=True, type=click.IntRange(min=1), help="Studies of each verdict.")
def main(out: Path, each: int) -> None:
    """Make the sheet."""
    shown = choose(worklist(), each)
    if not shown:
        sys.exit("no screened study has a heat map here: run `worker screen` first, with the same SCREENING_HOME")
    out.write_bytes(encode(sheet(shown)))
    click.echo(f"{out.name}: {len(shown)} heat maps, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
