"""CPU time of one decode in each transfer syntax, of this program and of pydicom, on the same radiographs.

    python -m tests.benchmarks.decoders [--rounds N] [--write]

pydicom chooses among the plugins that are installed; install python-gdcm, pylibjpeg, pylibjpeg-libjpeg,
pylibjpeg-openjpeg and pylibjpeg-rle for a comparison in every row. Each of them is measured too. CPU time of one
process, the least of all rounds, so that a busy machine gives nearly the same ratios as an idle one.
"""

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
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
from worker.imaging.dicom_object import open_object
from worker.imaging.limits import DEFAULT

RESULT = Path(__file__).parent / "results" / "decoders.json"


def radiograph() -> Codes:
    """One full-size radiograph of 12 bits, with a detector's noise."""
    noise = np.random.default_rng(5).integers(-NOISE, NOISE + 1, (ROWS, COLUMNS), dtype=np.int16)
    return varied(enlarged(sources()[0]), noise, 0)


def cpu_s(work: Callable[[], Any]) -> float:
    """CPU time of this process in one call, threads of codecs included."""
    began = time.process_time()
    work()
    return time.process_time() - began


def compared(syntax: str, codes: Codes, rounds: int) -> dict[str, Any]:
    """One row: the same file decoded by this program, by pydicom and by each of its plugins, in turns."""
    data = dicom_file(codes, syntax, bits=BITS)

    def ours() -> Any:
        return open_object(data, DEFAULT).stored_values()

    def theirs(plugin: str = "") -> Any:
        dataset = pydicom.dcmread(BytesIO(data))
        dataset.pixel_array_options(decoding_plugin=plugin)
        return dataset.pixel_array

    uid = UID(syntax)
    plugins = get_decoder(uid).available_plugins if uid.is_compressed else ("",)
    kinds: dict[str, Callable[[], Any]] = {"ours": ours}
    kinds |= {"chosen": theirs} if plugins else {}
    kinds |= {name: partial(theirs, name) for name in plugins if name}
    is_exact = np.array_equal(ours(), codes)
    times = [{name: cpu_s(decode) for name, decode in kinds.items()} for _ in range(rounds)]
    least = {name: round(min(one[name] for one in times) * 1e3, 1) for name in kinds}
    ours_ms, chosen_ms = least.pop("ours"), least.pop("chosen", None)
    return {
        "name": uid.name,
        "exact": is_exact,
        "ours_ms": ours_ms,
        "pydicom_ms": chosen_ms,
        "plugins_ms": least,
        "times_as_fast": None if chosen_ms is None else round(chosen_ms / ours_ms, 2),
        "bytes": len(data),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """The rows as a table."""
    table = Table("transfer syntax", "ours, ms", "pydicom, ms", "times as fast", "its plugins, ms", "exact")
    for row in found["syntaxes"].values():
        theirs = [str(row[name] or "-") for name in ("pydicom_ms", "times_as_fast")]
        theirs.append(", ".join(f"{name} {ms}" for name, ms in row["plugins_ms"].items()) or "-")
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
