"""Where each millisecond of a bulk run goes: samples of every process of the service, by package.

    python -m tests.benchmarks.profile_run [--studies N] [--write]

py-spy samples all stacks a hundred times a second, without those that wait. The deepest frame of this program says
whose work it is, whatever library does it. Needs the right to trace child processes (ptrace).
"""

import re
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tests.acceptance.installation import Installation
from tests.benchmarks.machine import Watch, machine, tell, warm_memory
from tests.benchmarks.service import LONGEST_STUDY_S, START_S
from tests.benchmarks.studies import write_studies

RESULT = Path(__file__).parent / "results" / "profile.json"
RATE_HZ = 100

#: A frame of this program, as py-spy writes it: `put (worker/store/folder.py:58)`.
OURS = re.compile(r"(\S+) \(((?:worker|schema)/\S+\.py)(?::\d+)?\)")
WAITS = re.compile(r"(wait|poll|select|epoll|sleep)\S* \(")

#: Kinds of work in one process, by the deepest frame of its stack.
ELSEWHERE = (("celery", "celery and kombu"), ("kombu", "celery and kombu"), ("importlib", "imports"))

#: Rows of the result; the rest is added up.
MOST_ROWS = 25


def shares(stacks: Iterable[str]) -> Counter[str]:
    """Samples by function of this program, from lines of collapsed stacks."""
    found: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if WAITS.match(frames[-1]):
            continue
        ours = [frame for frame in map(OURS.fullmatch, frames) if frame]
        if ours:
            function, file = ours[-1].groups()
            found[f"{file} {function}"] += int(count)
        else:
            found[next((name for word, name in ELSEWHERE if word in stack), "other")] += int(count)
    return found


def sampled(folder: Path, studies: int) -> Counter[str]:
    """Samples of a `worker screen` on a fresh state folder, its start included."""
    inbox, raw = folder / "inbox", folder / "stacks.txt"
    inbox.mkdir()
    write_studies(inbox, studies)
    warm_memory(folder)
    site = Installation(folder / "home", {"SCREENING_PROVIDER": "cpu"})
    spy = Path(sysconfig.get_path("scripts")) / "py-spy"
    command = [str(spy), "record", "--subprocesses", "--rate", str(RATE_HZ), "--format", "raw", "--output", str(raw)]
    done = subprocess.run(
        [*command, "--", *site.command("screen", inbox)],
        env=site.environment(), capture_output=True, text=True, check=False,
        timeout=START_S + studies * LONGEST_STUDY_S,
    )  # fmt: skip
    if not raw.exists():
        sys.exit(f"py-spy saw nothing: {done.stderr.strip()}")
    return shares(raw.read_text(encoding="utf-8").splitlines())


@click.command()
@click.option("--studies", default=200, show_default=True, type=click.IntRange(min=10))
@click.option("--write", is_flag=True, help="Keep the result in tests/benchmarks/results/profile.json.")
def main(studies: int, write: bool) -> None:
    """Measure, print."""
    watch = Watch()
    with tempfile.TemporaryDirectory() as name:
        samples = sampled(Path(name), studies)
    ms = {room: count * 1000 / RATE_HZ / studies for room, count in samples.most_common()}
    rows = dict(list(ms.items())[:MOST_ROWS])
    found: dict[str, Any] = {
        "studies": studies,
        "ms_a_study": {room: round(value, 2) for room, value in rows.items()},
        "rest_ms_a_study": round(sum(ms.values()) - sum(rows.values()), 2),
        "all_ms_a_study": round(sum(ms.values()), 2),
        "machine": machine(watch.share_taken_by_others(), ("py-spy", "onnxruntime-gpu", "celery", "sqlalchemy")),
        "measured_on": datetime.now(UTC).date().isoformat(),
    }
    tell(found, RESULT if write else None)


if __name__ == "__main__":
    main()
