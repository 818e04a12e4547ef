"""One round of `throughput`: ours in every mode, the roofline and two other programs, in turns on the same files."""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from schema.setting_values import InboxMode
from tests.benchmarks.service import AT_ONCE, Run, running
from tests.benchmarks.stages import READ_AGAIN, Costs, measure_stages, roofline
from tests.benchmarks.studies import write_all
from tests.benchmarks.ways import decodes, keras_s, plain_s
from tests.phantoms import EXPLICIT_LITTLE, HTJ2K, JPEG_2000_LOSSLESS


@dataclass(frozen=True)
class Kind:
    """Files of one transfer syntax."""

    syntax: str
    plain: int  #: so many of them are given to the plain way in a round


KINDS = {
    "uncompressed": Kind(EXPLICIT_LITTLE, 30),
    "jpeg2000": Kind(JPEG_2000_LOSSLESS, 8),
    "htj2k": Kind(HTJ2K, 15),
}

#: Ours: the kind of files, and the mode of the inbox.
OURS = {
    "move": ("uncompressed", InboxMode.MOVE),
    "copy": ("uncompressed", InboxMode.COPY),
    "leave": ("uncompressed", InboxMode.LEAVE),
    "jpeg2000": ("jpeg2000", InboxMode.MOVE),
    "htj2k": ("htj2k", InboxMode.MOVE),
}

#: Uncompressed files of a round on which each stage is measured alone, and that are given to the Keras way.
SOME_STAGES, SOME_KERAS = 60, 12

Files = dict[str, list[Path]]  #: of each kind


@dataclass(frozen=True)
class Round:
    """What was measured in turns."""

    ours: dict[str, Run]
    plain_s: dict[str, float]  #: of the kinds that it can decode
    keras_s: float
    costs: Costs
    alone: int  #: studies whose stages were measured alone

    def told(self, cores: int) -> dict[str, Any]:
        """As plain values: ratios first."""
        per_s = {name: run.studies_per_s for name, run in self.ours.items()}
        ceiling = roofline(self.costs, self.alone, cores)
        reading_once = roofline(self.costs, self.alone, cores, without=READ_AGAIN)
        plain = {name: per_s[name] * self.plain_s[kind] for name, (kind, _) in OURS.items() if kind in self.plain_s}
        return {
            "times_the_plain_way": {name: round(ratio, 2) for name, ratio in plain.items()},
            "times_the_keras_way": round(per_s["move"] * self.keras_s, 2),
            "of_roofline": round(per_s["move"] / ceiling, 3),
            "of_roofline_reading_once": round(per_s["move"] / reading_once, 3),
            "studies_per_s": {name: round(rate, 2) for name, rate in per_s.items()},
            "roofline_studies_per_s": round(ceiling, 2),
            "plain_ms": {kind: round(s * 1e3, 1) for kind, s in self.plain_s.items()},
            "keras_ms": round(self.keras_s * 1e3, 1),
        }


def write_files(folder: Path, studies: int, compressed: int) -> Files:
    """The files of every kind, other pictures in each."""
    found: Files = {}
    for number, (name, kind) in enumerate(KINDS.items()):
        count, first = studies if name == "uncompressed" else compressed, number * 10_000
        found[name] = write_all(folder / name, range(first, first + count), kind.syntax)
    return found


def measure_round(folder: Path, files: Files, model: Path, turn: int) -> Round:
    """One round; each begins with another measurement, so that none always follows the same one."""
    works: dict[str, Callable[[], Any]] = {
        name: partial(_screened, folder, files[kind], mode) for name, (kind, mode) in OURS.items()
    }
    plain = {name: f"plain, {name}" for name, kind in KINDS.items() if decodes(kind.syntax)}
    works |= {work: partial(plain_s, files[name][: KINDS[name].plain], model) for name, work in plain.items()}
    works["keras"] = partial(keras_s, files["uncompressed"][:SOME_KERAS])
    works["stages"] = partial(_alone, folder, files["uncompressed"][:SOME_STAGES], model)
    names = list(works)
    first = turn * 4 % len(names)
    found = {name: _timed(name, works[name]) for name in names[first:] + names[:first]}
    return Round(
        {name: found[name] for name in OURS},
        {name: found[work] for name, work in plain.items()},
        found["keras"],
        found["stages"],
        min(SOME_STAGES, len(files["uncompressed"])),
    )


def middle(told: Sequence[Any]) -> Any:
    """The median of each value over the rounds, in the shape of one round."""
    if isinstance(told[0], dict):
        return {name: middle([each[name] for each in told]) for name in told[0]}
    return round(statistics.median(told), 3)


def ms_a_study(rounds: Sequence[Round], clock: str) -> dict[str, float]:
    """What each stage costs by a clock of `Costs`."""
    studies = sum(each.alone for each in rounds)
    sums = Counter[str]()
    for each in rounds:
        sums.update(getattr(each.costs, clock))
    return {stage: round(s / studies * 1e3, 2) for stage, s in sums.items()}


def _screened(folder: Path, files: Sequence[Path], mode: InboxMode) -> Run:
    """Copies of the files, dropped into the inbox of a new installation; they are on the disk when that begins."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        drawer = Path(name) / "drawer"
        drawer.mkdir()
        copies = [Path(shutil.copyfile(file, drawer / file.name)) for file in files]
        with running(Path(name), SCREENING_INBOX_MODE=str(mode), **AT_ONCE) as service:
            os.sync()
            return service.drop(copies)


def _alone(folder: Path, files: Sequence[Path], model: Path) -> Costs:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        return measure_stages(files, Path(name), model)


def _timed(name: str, work: Callable[[], Any]) -> Any:
    """Do it, and say on standard error how long it took."""
    began = time.monotonic()
    found = work()
    sys.stderr.write(f"  {name}: {time.monotonic() - began:.0f} s\n")
    return found
