"""One picture in every transfer syntax, as a `pyramid53` model sees it: equal bytes, time, and what lossy ones lose.

    python -m tests.benchmarks.pyramid [--grid PX] [--count N] [--rounds N] [--write]

The pictures are those of the other benchmarks: radiographs of the repository, enlarged to 3056 x 2544 px of
12 bits with the noise of a detector. "in full" is the display pipeline over all pixels, "pyramid" over the halved ones.
"""

import json
import os
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID
from rich.console import Console
from rich.table import Table

from tests.benchmarks.decoders import cpu_s
from tests.benchmarks.machine import Watch, machine
from tests.benchmarks.studies import BITS, COLUMNS, NOISE, ROWS, Codes, enlarged, sources, varied
from tests.phantoms import EXPLICIT_LITTLE, JPEG_2000, JPEG_BASELINE, LOSSLESS_ENCODERS, dicom_file
from worker.imaging.image_file import open_image, read_display, read_grid
from worker.imaging.preprocess import Preprocessing, Resize
from worker.inference.model import open_model
from worker.runtime import configuration

RESULT = Path(__file__).parent / "results" / "pyramid.json"

SYNTAXES = (EXPLICIT_LITTLE, *LOSSLESS_ENCODERS)

#: Name -> transfer syntax, bits of the detector's values it holds.
LOSSY = {"JPEG 2000, 9/7": (JPEG_2000, BITS), "JPEG baseline": (JPEG_BASELINE, 8)}


def file_of(codes: Codes, syntax: str, bits: int = BITS) -> bytes:
    """The picture with a window over all values, at `bits` bits."""
    pixels = codes if bits == BITS else (codes >> (BITS - bits)).astype(np.uint8)
    return dicom_file(pixels, syntax, bits=bits, WindowCenter=1 << (bits - 1), WindowWidth=1 << bits)


def pictures(count: int) -> list[Codes]:
    """The first `count` radiographs of the repository."""
    noise = np.random.default_rng(5).integers(-NOISE, NOISE + 1, (ROWS, COLUMNS), dtype=np.int16)
    return [varied(enlarged(grey), noise, number) for number, grey in enumerate(sources()[:count])]


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> dict[str, float]:
    """In grey levels of 255."""
    moved = np.abs(one.astype(int) - other.astype(int))
    return {"mean": round(float(moved.mean()), 3), "p99": float(np.percentile(moved, 99)), "most": int(moved.max())}


def times(data: bytes, rule: Preprocessing, rounds: int) -> dict[str, Any]:
    """CPU milliseconds from the opened file to display values, in turns; the least of all."""
    image = open_image(data)
    took = [(cpu_s(image.display), cpu_s(lambda: image.display(rule.pyramid))) for _ in range(rounds)]
    full, pyramid = (min(column) * 1e3 for column in zip(*took, strict=True))
    notes = read_display(data, reduction=rule.pyramid).notes
    decoded = next((note.removeprefix("reduced=") for note in notes if note.startswith("reduced=")), "0")
    return {"in_full_ms": round(full, 1), "pyramid_ms": round(pyramid, 1), "halved_while_decoded": int(decoded)}


def measure(rule: Preprocessing, count: int, rounds: int) -> dict[str, Any]:
    """All measurements, as the result file holds them."""
    seen = pictures(count)
    exact = [read_grid(file_of(codes, EXPLICIT_LITTLE), rule) for codes in seen]
    lossless: dict[str, Any] = {}
    for syntax in SYNTAXES:
        equal = [np.array_equal(read_grid(file_of(c, syntax), rule), grid) for c, grid in zip(seen, exact, strict=True)]
        lossless[syntax] = {"equal": sum(equal), **times(file_of(seen[0], syntax), rule, rounds)}
    lossy: dict[str, Any] = {}
    for name, (syntax, bits) in LOSSY.items():
        found = np.stack([read_grid(file_of(codes, syntax, bits), rule) for codes in seen])
        wanted = np.stack([read_grid(file_of(codes, EXPLICIT_LITTLE, bits), rule) for codes in seen])
        lossy[name] = difference(found, wanted) | times(file_of(seen[0], syntax, bits), rule, rounds)
    return {"pictures": len(seen), "grid_px": rule.size, "lossless": lossless, "lossy": lossy}


def show(found: dict[str, Any], console: Console) -> None:
    """The rows as tables."""
    table = Table("transfer syntax", "equal grids", "in full, ms", "pyramid, ms", "halved while decoded")
    for syntax, row in found["lossless"].items():
        table.add_row(UID(syntax).name, f"{row['equal']} of {found['pictures']}", *map(str, list(row.values())[1:]))
    console.print(table)
    for name, row in found["lossy"].items():
        console.print(f"{name}: {row}")


@click.command()
@click.option(
    "--grid", type=click.IntRange(min=1), help="Side of the model's grid; without it that of the model in use."
)
@click.option("--count", default=4, show_default=True, type=click.IntRange(min=1), help="Pictures.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1), help="Decodes of each kind.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/pyramid.json.")
def main(grid: int | None, count: int, rounds: int, write: bool) -> None:
    """Measure, compare, print."""
    cv2.setNumThreads(1)
    grid = grid or open_model(configuration.load().model, "cpu").card.preprocessing.size
    watch = Watch()
    found = measure(Preprocessing(size=grid, resize=Resize.PYRAMID53), count, rounds)
    found |= {
        "input": f"radiographs of {ROWS} x {COLUMNS}, {BITS} bits (JPEG 8); CPU ms, least of {rounds} rounds",
        "machine": machine(watch.share_taken_by_others(), ["imagecodecs", "pillow", "opencv-python-headless"]),
        "machine_load": round(os.getloadavg()[0], 1),
        "numpy": version("numpy"),
        "measured_on": datetime.now(UTC).date().isoformat(),
    }
    if write:
        RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    show(found, Console())


if __name__ == "__main__":
    main()
