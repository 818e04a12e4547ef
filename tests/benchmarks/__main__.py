"""Run the benchmarks one after the other, say how long each takes, and print the table of all kept results:

    python -m tests.benchmarks [PART]... [--images N] [--rounds N] [--small] [--write]

Without names all parts run, in the order of their list. A part that fails does not stop the next ones; their names are
printed at the end, and the exit code is 1. `--small` only shows that each part works: its numbers mean nothing.
"""

import subprocess
import sys
import time
from collections.abc import Sequence

import click

#: Each part, and the options of a small run.
PARTS: dict[str, tuple[str, ...]] = {
    "throughput": ("--studies", "6", "--compressed", "2", "--rounds", "1", "--no-warm"),
    "taking_in": ("--files", "6", "--rounds", "1"),
    "pyramid": ("--count", "1", "--rounds", "1"),
    "endurance": ("--studies", "20", "--images", "200", "--stat", "2"),
    "two_cores": (),
    "cold": ("--rounds", "1"),
    "archive": ("--studies", "6000", "--unread", "4000", "--seconds", "2"),
    "heat_share": (),
    "decoders": ("--rounds", "1"),
    "profile_run": ("--studies", "10"),
    "fit_overhead": ("--steps", "2", "--rounds", "1"),
    "page": ("--studies", "6000", "--unread", "4000", "--rounds", "5"),
    "page_readers": ("--studies", "6000", "--unread", "4000", "--seconds", "5", "--files", "2", "--pages", "200"),
    "page_viewer": ("--images", "1", "--rounds", "5"),
}

#: What is written anew from results that are kept.
WRITTEN = (
    ("tests.benchmarks.table", "--write"),
    ("tests.benchmarks.table", "--plot", "deploy/pictures/speed.png"),
    ("tests.benchmarks.page_table", "--write"),
    ("deploy.sizing",),
)


def options(part: str, images: int | None, rounds: int | None, *, is_small: bool, is_kept: bool) -> list[str]:
    """What a part is called with."""
    asked = list(PARTS[part]) if is_small else []
    if part == "endurance" and images is not None:
        asked += ["--images", str(images)]
    if part == "throughput" and rounds is not None:
        asked += ["--rounds", str(rounds)]
    return [*asked, "--write"] if is_kept else asked


def _run(module: str, *words: str) -> int:
    """The exit code of a program of this project."""
    return subprocess.run([sys.executable, "-m", module, *words], check=False).returncode


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)), metavar="[PART]...")
@click.option("--images", type=int, help="Images over which the memory of a worker is watched; 10,000 without it.")
@click.option("--rounds", type=int, help="Rounds of `throughput`; five without it.")
@click.option("--small", "is_small", is_flag=True, help="Small runs, to see that the parts work.")
@click.option("--write", "is_kept", is_flag=True, help="Keep the results, and write the pages that show them.")
def main(parts: Sequence[str], images: int | None, rounds: int | None, *, is_small: bool, is_kept: bool) -> None:
    """Run, report, and exit with 1 when a part failed."""
    if is_small and is_kept:
        raise click.UsageError("the numbers of small runs mean nothing: leave out --small or --write")
    failed = list[str]()
    for part in parts or PARTS:
        began = time.monotonic()
        code = _run(f"tests.benchmarks.{part}", *options(part, images, rounds, is_small=is_small, is_kept=is_kept))
        took = f"{(time.monotonic() - began) / 60:.1f} min"
        click.echo(f"== {part}: {took}{f', failed with exit code {code}' if code else ''}", err=True)
        failed += [part] if code else []
    for module, *words in WRITTEN if is_kept else ():
        failed += [module] if _run(module, *words) else []
    if not is_small:
        _run("tests.benchmarks.table")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
