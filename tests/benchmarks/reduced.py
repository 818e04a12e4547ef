"""Time saved by decoding at a lower resolution, and how the shipped model's predictions change on real radiographs.

    python -m tests.benchmarks.reduced NATIVE [--others FOLDER] [--count N] [--write] [--stamp OUT.onnx]

NATIVE holds radiographs at the size of their detector, as published. Each is given to the model twice, from all of its
pixels and from a lower resolution: at its own size where that is large enough, and enlarged to a detector's
3056 x 2544 px of 12 bits with a detector's noise; `--others` are enlarged likewise, up to `--count` in all. An enlarged
radiograph has less detail than a detector gives, so its numbers are too good; they are reported apart.

From what is found follow the bounds between which an answer leaves a doubt (`worker.inference.reduced_decode`), and
which codings are worth it. `--stamp` writes the model again with these on its card.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, astuple, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tests.benchmarks.decoders import cpu_s
from tests.benchmarks.machine import Watch, machine
from tests.benchmarks.moved import Moved, judged
from tests.benchmarks.studies import BITS, COLUMNS, NOISE, ROWS, Codes, enlarged, varied
from tests.phantoms import EXPLICIT_LITTLE, HTJ2K, JPEG_2000_LOSSLESS, JPEG_BASELINE, dicom_file
from trainer.export.card import write
from worker.imaging.codec.codestream import Coding
from worker.imaging.codec.resolution import MinimumSize
from worker.imaging.image_file import open_image, read_display
from worker.imaging.preprocess import apply
from worker.imaging.pyramid import TIMES_THE_GRID
from worker.inference.card import ReducedDecode
from worker.inference.model import OnnxModel, open_model
from worker.inference.overlay import PICTURE_PX
from worker.settings import DEFAULT_MODEL

RESULT = Path(__file__).parent / "results" / "reduced.json"

#: Name -> transfer syntax, what the card calls its coding, bits of the detector's values it holds.
SYNTAXES = {
    "JPEG 2000 lossless": (JPEG_2000_LOSSLESS, Coding.JPEG_2000, BITS),
    "HTJ2K lossless": (HTJ2K, Coding.JPEG_2000, BITS),
    "JPEG baseline": (JPEG_BASELINE, Coding.JPEG, 8),
}

#: The group of those that are not enlarged.
AT_ITS_OWN_SIZE = "at its own size"

#: A reduced decode that saves less than this share of a full one, doubtful images counted, is not used.
LEAST_SAVING = 0.1

Grey = NDArray[np.uint8]


def radiographs(
    native: Path, others: Path | None, count: int, minimum: MinimumSize
) -> Iterator[tuple[str, str, Codes | Grey]]:
    """(group, SHA-256 of the file, pixels), as many as `count`."""
    noise = np.random.default_rng(5).integers(-NOISE, NOISE + 1, (ROWS, COLUMNS), dtype=np.int16)
    left = count
    files = [("native", path) for path in _images(native)] + [("others", path) for path in _images(others)]
    for number, (kind, path) in enumerate(files):
        data = path.read_bytes()
        digest, grey = hashlib.sha256(data).hexdigest(), read_display(data).pixels
        if kind == "native" and min(grey.shape) >= 2 * minimum.short_px and max(grey.shape) >= 2 * minimum.long_px:
            yield AT_ITS_OWN_SIZE, digest, grey
            left -= 1
        if left <= 0:
            return
        yield f"{kind}, enlarged", digest, varied(enlarged(grey), noise, number)
        left -= 1


def _images(folder: Path | None) -> list[Path]:
    """By the digest of their names: some of each sort among the first."""
    found = [] if folder is None else [p for p in folder.rglob("*") if p.suffix in (".jpeg", ".jpg", ".png")]
    return sorted(found, key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())


def file_of(pixels: Codes | Grey, syntax: str, most_bits: int = BITS) -> bytes:
    """A DICOM file of these pixels with a window over all values; no deeper than `most_bits`."""
    bits = BITS if pixels.dtype == np.uint16 else 8
    if bits > most_bits:
        pixels, bits = (pixels >> (bits - most_bits)).astype(np.uint8), most_bits
    return dicom_file(pixels, syntax, bits=bits, WindowCenter=1 << (bits - 1), WindowWidth=1 << bits)


def answered(model: OnnxModel, shown: Grey) -> tuple[float, float]:
    """Probability and familiarity."""
    said = model.predict(apply(shown, model.card.preprocessing)[0][None])[0]
    return said.probability, said.familiarity


def moved(model: OnnxModel, pixels: Codes | Grey, name: str, group: str, minimum: MinimumSize) -> Moved | None:
    """How the prediction changes; None where the picture has no lower resolution."""
    syntax, coding, bits = SYNTAXES[name]
    data = file_of(pixels, syntax, bits)
    reduced = read_display(data, reduction=minimum)
    level = next((int(note.partition("=")[2]) for note in reduced.notes if note.startswith("reduced=")), 0)
    if not level:
        return None
    # lossless: what a full decode gives is what was there, and is not decoded for 200 images
    whole = read_display(data if coding is Coding.JPEG else file_of(pixels, EXPLICIT_LITTLE, bits))
    return Moved(group, level, *answered(model, whole.pixels), *answered(model, reduced.pixels))


def timed(pixels: Codes | Grey, name: str, minimum: MinimumSize, rounds: int) -> dict[str, float]:
    """CPU milliseconds from the opened file to display values, in full and reduced, in turns; the least of all."""
    syntax, _, bits = SYNTAXES[name]
    image = open_image(file_of(pixels, syntax, bits))
    times = [(cpu_s(image.display), cpu_s(lambda: image.display(minimum))) for _ in range(rounds)]
    full, reduced = (min(column) * 1e3 for column in zip(*times, strict=True))
    return {"full_ms": round(full, 1), "reduced_ms": round(reduced, 1), "times_as_fast": round(full / reduced, 1)}


def measure(model: OnnxModel, native: Path, others: Path | None, count: int, rounds: int) -> dict[str, Any]:
    """All measurements, as the result file holds them."""
    minimum = MinimumSize(TIMES_THE_GRID * model.card.preprocessing.size, PICTURE_PX, frozenset(Coding))
    digests: set[str] = set()
    rows: dict[str, list[Moved]] = {name: [] for name in SYNTAXES}
    example: Codes | Grey | None = None
    for group, digest, pixels in radiographs(native, others, count, minimum):
        digests.add(digest)
        if example is None and group != AT_ITS_OWN_SIZE:
            example = pixels
        for name, found in rows.items():
            one = moved(model, pixels, name, group, minimum)
            found += [] if one is None else [one]
    if example is None:
        raise click.UsageError(f"no radiographs in {native}")
    decode = {name: timed(example, name, minimum, rounds) for name in SYNTAXES}
    syntaxes = {name: judged(found, model.card, decode[name]) for name, found in rows.items()}
    digest = hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
    return {
        "model": model.digest,
        "threshold": model.card.operating_point.threshold,
        "card": card_of(syntaxes, max(map(len, rows.values())), digest),
        "syntaxes": syntaxes,
        "raw": {name: [" ".join(map(str, astuple(one))) for one in found] for name, found in rows.items()},
    }


def card_of(syntaxes: dict[str, Any], images: int, data_digest: str) -> dict[str, Any]:
    """The values for the card: the codings of which every syntax is worth it, and the widest bounds among these."""
    worth = {
        name: found["meets_its_numbers"] and found["saves_of_familiar"] >= LEAST_SAVING
        for name, found in syntaxes.items()
    }
    codings = sorted({coding for _, coding, _ in SYNTAXES.values()})
    codings = [
        coding for coding in codings if all(worth[name] for name, (_, own, _) in SYNTAXES.items() if own is coding)
    ]
    bounds = [syntaxes[name]["bounds"] for name, (_, own, _) in SYNTAXES.items() if own in codings] or [(0.0, 1.0, 0.0)]
    below, above, margins = zip(*bounds, strict=True)
    return asdict(ReducedDecode(tuple(codings), min(below), max(above), max(margins), images, data_digest))


def stamp(model: OnnxModel, source: Path, measured: ReducedDecode, out: Path) -> None:
    """The same model, with this on its card."""
    import onnx

    write(onnx.load(source), replace(model.card, reduced_decode=measured), out)
    open_model(out, "cpu")


def show(found: dict[str, Any], console: Console) -> None:
    """The rows as a table."""
    table = Table("syntax", "group", "images", "within 0.01", "flips", "in doubt", "then within", "flips")
    for name, row in found["syntaxes"].items():
        for group, one in row["groups"].items():
            after = one["doubts_in_full"]
            table.add_row(name, group, *map(str, (
                one["images"], one["within"], one["flips"], one["in_doubt"], after["within"], after["flips"],
            )))  # fmt: skip
    console.print(table)
    for name, row in found["syntaxes"].items():
        console.print(
            f"{name}: {row['decode']}, saves {row['saves_of_familiar']}, meets its numbers: {row['meets_its_numbers']}"
        )
    console.print(found["card"])


@click.command()
@click.argument("native", type=click.Path(exists=True, path_type=Path))
@click.option("--others", type=click.Path(exists=True, path_type=Path), help="More radiographs, to be enlarged.")
@click.option("--model", "path", default=DEFAULT_MODEL, type=click.Path(exists=True, path_type=Path))
@click.option("--count", default=200, show_default=True, type=click.IntRange(min=1), help="Pictures in all.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1), help="Decodes of each kind.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/reduced.json.")
@click.option("--stamp", "out", type=click.Path(path_type=Path), help="Write the model with the result on its card.")
def main(
    native: Path, others: Path | None, path: Path, count: int, rounds: int, write: bool, out: Path | None
) -> None:  # fmt: skip
    """Measure, print, and write the model with its bounds."""
    cv2.setNumThreads(1)
    watch, model = Watch(), open_model(path, "cpu")
    found = measure(model, native, others, count, rounds)
    if out is not None:
        stamp(model, path, ReducedDecode(**{**found["card"], "codings": tuple(found["card"]["codings"])}), out)
    found |= {
        "input": f"decode: a radiograph of {ROWS} x {COLUMNS}, {BITS} bits (JPEG 8); CPU ms, least of {rounds}",
        "machine": machine(watch.share_taken_by_others(), ["imagecodecs", "pillow", "opencv-python-headless"]),
        "note": "other work ran beside it",
        "machine_load": round(os.getloadavg()[0], 1),
        "measured_on": datetime.now(UTC).date().isoformat(),
    }
    if write:
        RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    show(found, Console(width=150))


if __name__ == "__main__":
    main()
