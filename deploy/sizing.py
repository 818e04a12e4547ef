"""Writes SIZING.md from what the benchmarks measured:  python -m deploy.sizing

`make check` compares the page with the measurements, so a new measurement needs a new page.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker.app import MESSAGE_WORK_S, STUDY_WORK_S

PAGE = Path(__file__).parent / "SIZING.md"
RESULTS = Path("tests/benchmarks/results")

#: Studies a second that the page plans for.
RATES = (1, 10, 1000)

#: Of cores and intake no more than this is planned for: the rest is for peaks, restarts, and what was not measured.
PLANNED = 0.6

DAY_S = 86400


def read(name: str) -> Any:
    """What a benchmark wrote."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def page() -> str:
    """The whole page."""
    run, footprint, archive = (read(name) for name in ("throughput", "footprint", "archive"))
    costs = Costs(run, footprint, archive["sqlite"])
    return "\n".join([*opening(), *costs.table(), "", *plan(costs), ""])


class Costs:
    """What one study costs, each number with its source."""

    def __init__(self, run: Any, footprint: Any, archive: Any) -> None:
        each = footprint["each study"]
        stages = run["stages_cpu_ms"]
        self.run, self.footprint, self.archive = run, footprint, archive
        own_cores = run["machine"]["cores"] * (1 - run["machine"]["share_taken_by_others"])
        self.core_s, self.slow_core_s = (own_cores / run["studies_per_s"][way] for way in ("copy", "jpeg2000"))
        self.stages_s = sum(stages.values()) / 1e3
        self.inference_s = stages["inference"] / 1e3
        copied = run["runs"]["copy"]
        self.intake_s = sum(each["taking_in_s"] for each in copied) / sum(each["studies"] for each in copied)
        self.taking_in = {way: read("taking_in")[way]["cpu_ms"] / 1e3 for way in ("move", "copy", "leave")}
        self.commands, self.transactions = each["redis_commands"], each["postgresql_transactions"]
        self.rows, self.row_bytes = each["postgresql_rows_written"], each["database_bytes"]
        self.received, self.stored = footprint["received_bytes"], footprint["store_bytes"]
        self.messages = 1 / max(1, int(MESSAGE_WORK_S / STUDY_WORK_S))

    def table(self) -> Iterator[str]:
        """The costs, as lines of Markdown."""
        yield "| one study (one image, 3056 × 2544, 12 bits, heat map drawn) | | from |"
        yield "|---|---|---|"
        yield f"| uncompressed, all of it: CPU time | {ms(self.core_s)} | `throughput.json`: cores, studies a second |"
        yield f"| of it in the stages of the path | {ms(self.stages_s)} | the same, `stages_cpu_ms` |"
        yield f"| of it the network (what a GPU would take over) | {ms(self.inference_s)} | the same |"
        yield f"| JPEG 2000 lossless, linked: CPU time | {ms(self.slow_core_s)} | the same: cores, studies a second |"
        yield f"| one watcher's time | {ms(self.intake_s)} | `throughput.json`, `taking_in_s` |"
        linked, copied, left = (ms(self.taking_in[way]) for way in ("move", "copy", "leave"))
        yield f"| its CPU time: linked, copied, left | {linked}; {copied}; {left} | `taking_in.json` (busy cores) |"
        yield f"| received; kept in the store | {size(self.received)}; {size(self.stored)} | `footprint.json` |"
        yield f"| Redis: commands | {figure(self.commands)} | `footprint.json` |"
        yield f"| PostgreSQL: transactions; rows | {figure(self.transactions)}; {figure(self.rows)} | the same |"
        yield f"| PostgreSQL: growth, indexes included | {size(self.row_bytes)} | the same |"
        yield (
            f"| the next 50 of {self.archive['unread']:,} unread among {self.archive['studies']:,} |"
            f" {self.archive['alone']['next_50']['cpu_ms']:.1f} ms | `archive.json` (SQLite) |"
        )

    def at(self, rate: int) -> dict[str, str]:
        """What a rate of studies a second needs, by row of the table."""
        return {
            "cores, uncompressed": whole(rate * self.core_s / PLANNED),
            "cores, JPEG 2000 lossless": whole(rate * self.slow_core_s / PLANNED),
            "watchers (inboxes)": whole(rate * self.intake_s / PLANNED),
            "cores that GPUs would free": figure(rate * self.inference_s),
            "Redis: commands a second": figure(rate * self.commands),
            "Redis: bulk messages a second": figure(rate * self.messages),
            "PostgreSQL: transactions a second": figure(rate * self.transactions),
            "PostgreSQL: growth a day": size(rate * self.row_bytes * DAY_S),
            "into the inbox, and into the store": f"{size(rate * self.received)}/s, {size(rate * self.stored)}/s",
            "store: growth a day": size(rate * self.stored * DAY_S),
        }


def opening() -> Iterator[str]:
    """What the page is, and of which machine."""
    yield "# How large"
    yield ""
    yield "Made by `python -m deploy.sizing` from `tests/benchmarks/results/`; do not edit. Research use only."
    yield ""
    machine = read("throughput")["machine"]
    yield f"Times were measured on {machine['cores']} cores ({machine['cpu']}), without a GPU (`make bench`); the"
    yield "load on Redis, PostgreSQL and the store with `python -m tests.benchmarks.footprint`. Measure on yours."
    yield ""


def plan(costs: Costs) -> Iterator[str]:
    """What each rate needs, and how one would build it."""
    columns = [costs.at(rate) for rate in RATES]
    yield "## A plan on paper"
    yield ""
    yield f"Cores and watchers are planned to be {PLANNED:.0%} busy. Cores are those of watchers and workers together."
    yield "Growth is that of a day and a night at this rate; ten busy hours make 10/24 of it."
    yield ""
    yield "| studies a second | " + " | ".join(f"{rate:,}" for rate in RATES) + " |"
    yield "|---|" + "---|" * len(RATES)
    for row in columns[0]:
        yield f"| {row} | " + " | ".join(column[row] for column in columns) + " |"
    yield PLAN


#: What no table says. Nothing here was run at these rates.
PLAN = """
- **1 a second** needs one machine: `worker run`, or compose. SQLite and the embedded Redis are enough.
- **10 a second** needs one installation on a few machines: PostgreSQL, Redis, a store that all mount, watchers
  that share an inbox or have one each, queue workers by KEDA or by hand. The network and the disks are full before
  the cores are.
- **1,000 a second** is too much for one installation. PostgreSQL with so many commits, and a file system that takes so
  many bytes twice, were not tried; and nobody can read one list of that length. Build installations of ten a second,
  one for each site, each with its database, store and worklist: they share nothing but the model file.
- **GPUs**: with the shipped model the network is the smaller part of a study, so GPUs free few cores; their speed was
  not measured ([README.md](README.md#a-gpu) says how). They help recipes with larger networks. `worker check` says
  which provider is bound.
- **Memory**: 1.5 GiB for each worker process, and what each of its decoder children may take while it decodes
  (`SCREENING_DECODER_MEMORY_MIB`, 4 GiB). It has `SCREENING_STUDIES_AT_ONCE` of them, one by default; the watcher has
  one too. At rest a child takes 70 to 170 MB, while it decodes 1.8 to 5.2 bytes for each byte of the decoded image.
- **PostgreSQL** has each verdict's heat map and every arrival; the bytes of images are in the store alone.
  `worker prune` bounds the store; rows stay.
- **Not measured**: any of these rates, a GPU, PostgreSQL beside other load, network file systems."""


def whole(value: float) -> str:
    """The next whole number."""
    return f"{math.ceil(value):,}"


def figure(value: float) -> str:
    """Two significant digits, thousands apart."""
    if value == 0:
        return "0"
    digits = 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(0, digits)}f}"


def ms(seconds: float) -> str:
    """Milliseconds."""
    return f"{figure(seconds * 1e3)} ms"


def size(count: float) -> str:
    """Bytes in the unit that suits."""
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    power = min(len(units) - 1, max(0, math.floor(math.log10(max(count, 1)) / 3)))
    return f"{figure(count / 1000**power)} {units[power]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
