"""CPU time of one decode in each transfer syntax, ours beside pydicom's own choice, on the same radiographs.

    python -m tests.benchmarks.decoders [--rounds N] [--write]

pydicom chooses among the plugins that are installed; install python-gdcm, pylibjpeg, pylibjpeg-libjpeg,
pylibjpeg-openjpeg and pylibjpeg-rle for a comparison in every row. CPU time of one process, the least of all rounds,
so that a machine with other work to do gives nearly the same ratios as a quiet one.
"""

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID
from rich.console import Console
from rich.table import Table

from tests.benchmarks.studies import BITS, COLUMNS, NOISE, ROWS, Codes, enlarged, sources, varied
from tests.phantoms import EXPLICIT_LITTLE, LOSSLESS_ENCODERS, dicom_file
from worker.imaging.dicom import open_object
from worker.imaging.limits import DEFAULT

RESULT = Path(__file__).parent / "results" / "decoders.json"


def radiograph() -> Codes:
    """One full-size radiograph of 12 bits, with a detector's noise."""
    noise = np.random.default_rng(5).integers(-NOISE, NOISE + 1, (ROWS, COLUMNS), dtype=np.int16)
    return varied(enlarged(sources()[0]), noise, 0)


def cpu_s(work: Callable[[], Any]) -> float:
    """What one call costs this process, threads of codecs included."""
    began = time.process_time()
    work()
    return time.process_time() - began


def compared(syntax: str, codes: Codes, rounds: int) -> dict[str, Any]:
    """One row: our decode and pydicom's of the same file, taken in turns."""
    data = dicom_file(codes, syntax, bits=BITS)

    def ours() -> Any:
        return open_object(data, DEFAULT).stored_values()

    def theirs() -> Any:
        return pydicom.dcmread(BytesIO(data)).pixel_array

    plugin = _first_plugin(syntax)
    is_exact = np.array_equal(ours(), codes)
    times = [(cpu_s(ours), cpu_s(theirs) if plugin else None) for _ in range(rounds)]
    ours_s = min(mine for mine, _ in times)
    theirs_s = min((other for _, other in times if other is not None), default=None)
    return {
        "name": UID(syntax).name,
        "exact": is_exact,
        "ours_ms": round(ours_s * 1e3, 1),
        "pydicom_ms": None if theirs_s is None else round(theirs_s * 1e3, 1),
        "pydicom_plugin": plugin,
        "times_as_fast": None if theirs_s is None else round(theirs_s / ours_s, 2),
        "bytes": len(data),
    }


def _first_plugin(syntax: str) -> str | None:
    """The plugin pydicom tries first; None where it has none."""
    uid = UID(syntax)
    if not uid.is_compressed:
        return "pydicom"
    return next(iter(get_decoder(uid).available_plugins), None)


def show(found: dict[str, Any], console: Console) -> None:
    """The rows as a table."""
    table = Table("transfer syntax", "ours, ms", "pydicom, ms", "by", "times as fast", "exact")
    for row in found["syntaxes"].values():
        theirs = [str(row[name] or "-") for name in ("pydicom_ms", "pydicom_plugin", "times_as_fast")]
        table.add_row(row["name"], str(row["ours_ms"]), *theirs, "yes" if row["exact"] else "NO")
    console.print(table)


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="Decodes of each kind.")
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/decoders.json.")
def main(rounds: int, write: bool) -> None:
    """Measure, compare, print."""
    cv2.setNumThreads(1)
    codes = radiograph()
    found = {
        "syntaxes": {syntax: compared(syntax, codes, rounds) for syntax in (EXPLICIT_LITTLE, *LOSSLESS_ENCODERS)},
        "input": f"one radiograph of {ROWS} x {COLUMNS}, {BITS} bits; CPU ms, least of {rounds} rounds",
        "machine_load": round(os.getloadavg()[0], 1),
        "imagecodecs": version("imagecodecs"),
        "pydicom": pydicom.__version__,
        "measured_on": datetime.now(UTC).date().isoformat(),
    }
    if write:
        RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    show(found, Console())


if __name__ == "__main__":
    main()
