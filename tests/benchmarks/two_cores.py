"""What a second core adds on this machine for independent work: the most that a second worker process could add.

    python -m tests.benchmarks.two_cores [--write]

Copies of 16 MB are what reading, hashing and displaying a radiograph mostly are; they share the way to memory.
"""

import hashlib
import multiprocessing
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from tests.benchmarks.machine import Watch, machine, tell

RESULT = Path(__file__).parent / "results" / "two_cores.json"

#: Bytes of an uncompressed radiograph of 3056 x 2544.
RADIOGRAPH = 15_549_622


def count(_: int) -> float:
    """Work in Python code."""
    began, total = time.perf_counter(), 0
    for number in range(8_000_000):
        total += number
    return time.perf_counter() - began


def digest(_: int) -> float:
    """Work in the processor's cache."""
    piece, began = bytes(1 << 18), time.perf_counter()
    for _round in range(4000):
        hashlib.sha256(piece).digest()
    return time.perf_counter() - began


def copy(_: int) -> float:
    """Work in memory."""
    image, began = bytearray(RADIOGRAPH), time.perf_counter()
    for _round in range(300):
        bytes(image)
    return time.perf_counter() - began


def gain(work: Callable[[int], float]) -> float:
    """How much two processes do of what one does in the same time."""
    with multiprocessing.Pool(2) as pool:
        (alone,) = pool.map(work, [0])
        together = max(pool.map(work, [0, 1], chunksize=1))
    return 2 * alone / together


@click.command()
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/two_cores.json.")
def main(write: bool) -> None:
    """Measure, print."""
    watch = Watch()
    found = {
        **{work.__name__: round(gain(work), 2) for work in (count, digest, copy)},
        "machine": machine(watch.share_taken_by_others(), ()),
        "measured_on": datetime.now(UTC).date().isoformat(),
    }
    tell(found, RESULT if write else None)


if __name__ == "__main__":
    main()
