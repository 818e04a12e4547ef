"""Time of one command in a new process, from its start to the printed row.

    python -m tests.benchmarks.cold [--rounds N] [--write]

`worker screen` of one file in a fresh state folder starts Redis, the queue worker, the decoder child and the model.
"""

import statistics
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from tests.acceptance.installation import SAMPLES, Installation
from tests.benchmarks.machine import Watch, machine, tell

RESULT = Path(__file__).parent / "results" / "cold.json"
SAMPLE = SAMPLES / "anna_explicit.dcm"

TITLE = b"Worklist"


def seconds(site: Installation, *words: str | Path) -> float:
    """Seconds until the list's title is printed; `screen` prints its settings before."""
    began = time.perf_counter()
    command, environment = site.command(*words), site.environment()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert any(line.startswith(TITLE) for line in process.stdout)
        took = time.perf_counter() - began
        process.stdout.read()
    assert process.returncode == 0
    return took


@click.command()
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(min=1))
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/cold.json.")
def main(rounds: int, write: bool) -> None:
    """Measure, print."""
    watch = Watch()
    first, again, worklist = list[float](), list[float](), list[float]()
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            site = Installation(Path(name) / "home", {"SCREENING_PROVIDER": "cpu"})
            first.append(seconds(site, "screen", SAMPLE))
            again.append(seconds(site, "screen", SAMPLE))
            worklist.append(seconds(site, "worklist"))
    found = {
        "rounds": rounds,
        **{
            name: {"median_s": round(statistics.median(each), 2), "most_s": round(max(each), 2)}
            for name, each in (("screen_first", first), ("screen_again", again), ("worklist", worklist))
        },
        "machine": machine(watch.share_taken_by_others(), ("onnxruntime-gpu", "celery", "sqlalchemy")),
        "measured_on": datetime.now(UTC).date().isoformat(),
    }
    tell(found, RESULT if write else None)


if __name__ == "__main__":
    main()
