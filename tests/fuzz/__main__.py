"""The long fuzz run, through the whole program: `make fuzz FILES=100000 SEED=1`.

Damaged files go through `worker screen` in batches, each in a state folder of its own. Of every batch it is asked that
the program ends well, that each file and each study is in exactly one state (`worker reconcile`), that no study FAILED
(a bug), that no image took longer than the decoder's deadline lets it, and that no process grew beyond the cap. What
breaks that is kept and named. `make fuzz SEED=1 ONLY=1234` does the same with one file, and keeps it.
"""

import argparse
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.installation import Installation
from tests.fuzz.mutations import damaged

#: Files that share a state folder.
BATCH = 1000

#: A decoder's deadline in the run, and what an image may take beyond two of them.
DEADLINE_S, SLACK_S = 20, 20

#: No process may hold more than this.
CAP_MIB = 1536

#: Time for one file; a thousand that all hang would need more, and say so.
FILE_S = 5.0


@dataclass
class Sums:
    """The number of files of a run by outcome."""

    files: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0  #: for one image
    most_mib: dict[str, float] = field(default_factory=dict)  #: by kind of process

    def add(self, site: Installation) -> None:
        """Read them from a batch's database."""
        with closing(sqlite3.connect(site.home / "screening.sqlite")) as connection:
            for sums, column, table in (
                (self.files, "state", "arrival"),
                (self.codes, "code", "arrival WHERE code IS NOT NULL"),
                (self.codes, "unreadable", "finding WHERE unreadable IS NOT NULL"),
                (self.verdicts, "verdict", "screening"),
            ):
                sums.update(dict(connection.execute(f"SELECT {column}, COUNT(*) FROM {table} GROUP BY 1")))
            (longest,) = connection.execute(
                "SELECT COALESCE(MAX(worked_s / (SELECT COUNT(*) FROM finding WHERE screening_id = screening.id)), 0)"
                " FROM screening"
            ).fetchone()
            self.longest_s = max(self.longest_s, longest)


def screen(site: Installation, inbox: Path, files: int, sums: Sums) -> list[str]:
    """Screen one batch; what was wrong with it."""
    with watched(site, sums.most_mib):
        try:
            done = subprocess.run(
                site.command("screen", inbox, "--json"), env=site.environment(), capture_output=True, text=True,
                timeout=600 + files * FILE_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return ["it did not come to an end"]
    if done.returncode != 0:
        return [f"`worker screen` ended with {done.returncode}: {done.stderr[-2000:]}"]
    account = subprocess.run(
        site.command("reconcile", "--json"), env=site.environment(), capture_output=True, text=True, check=False
    )
    found = json.loads(account.stdout)
    sums.add(site)
    log = (site.home / "logs" / "worker.log").read_text(encoding="utf-8", errors="replace")
    wrong = {
        f"`worker reconcile` ended with {account.returncode}": account.returncode != 0,
        f"{files} files went in, {found['files']} are accounted for": sum(found["files"].values()) != files,
        f"files still wait: {found['files']}": "waiting" in found["files"],
        f"studies without a verdict: {found['studies']}": set(found["studies"]) > {"screened"},
        f"an image took {sums.longest_s:.0f} s": sums.longest_s > 2 * DEADLINE_S + SLACK_S,
        f"memory: {sums.most_mib}": max(sums.most_mib.values(), default=0.0) > CAP_MIB,
        "a traceback is in the log": "Traceback" in log,
    }
    return [what for what, is_so in wrong.items() if is_so]


@contextmanager
def watched(site: Installation, most_mib: dict[str, float]) -> Iterator[None]:
    """Record the highest resident memory of every process of the installation while the block runs."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            for kind, mib in resident(site):
                most_mib[kind] = max(most_mib.get(kind, 0.0), mib)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def resident(site: Installation) -> Iterator[tuple[str, float]]:
    """(kind, peak resident MiB) of each process that has the state folder in its environment."""
    mark = f"SCREENING_HOME={site.home}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            words = (folder / "cmdline").read_bytes()
            lines = (folder / "status").read_text().splitlines()
        except OSError:  # it has ended
            continue
        peak = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
        kinds = {b"decoder_child": "decoder", b"celery": "worker", b"redis": "redis"}
        yield next((kind for word, kind in kinds.items() if word in words), "screen"), peak


def batch(seed: int, numbers: range, folder: Path, sums: Sums) -> list[str]:
    """Write the files of these numbers and screen them; what was wrong."""
    inbox = folder / "inbox"
    inbox.mkdir()
    for number in numbers:
        name, content = damaged(seed, number)
        (inbox / name).write_bytes(content)
    settings = {"SCREENING_DECODER_DEADLINE_S": str(DEADLINE_S), "SCREENING_MIN_FREE_MIB": "64"}
    return screen(Installation(folder / "home", settings), inbox, len(numbers), sums)


def main() -> int:
    """The run; 1 when something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--first", type=int, default=0, help="number of the first file, to go on with a run")
    parser.add_argument("--only", type=int, help="one file, by its number")
    options = parser.parse_args()
    sums, began, broken = Sums(), time.monotonic(), 0
    numbers = range(options.first, options.files) if options.only is None else range(options.only, options.only + 1)
    say(f"seed {options.seed}, {len(numbers):,} files; one again: make fuzz SEED={options.seed} ONLY=<number>")
    for start in numbers[::BATCH]:
        part = range(start, min(start + BATCH, numbers.stop))
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        wrong = batch(options.seed, part, folder, sums)
        for what in wrong:
            say(f"files {part.start} to {part.stop - 1}: {what}")
        if wrong or options.only is not None:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
        broken += len(wrong)
        done = part.stop - numbers.start
        say(f"{done:,} of {len(numbers):,} in {time.monotonic() - began:,.0f} s: {dict(sums.files)}")
    say(f"codes     {dict(sums.codes.most_common())}")
    say(f"verdicts  {dict(sums.verdicts.most_common())}")
    memory = ", ".join(f"{kind} {mib:.0f}" for kind, mib in sums.most_mib.items())
    say(f"longest   {sums.longest_s:.1f} s for an image; most memory in MiB: {memory}")
    say(f"{sum(sums.files.values()):,} files accounted for, {broken} faults")
    return int(broken > 0)


def say(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
