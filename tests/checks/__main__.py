"""Compares files that programs write, and drawings of code, with what they are made from:  python -m tests.checks

It prints each difference with its remedy and exits with 1 when there is one. `make check` runs it. Such things have no
behaviour: a test of them would be one of form.
"""

import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from os.path import relpath
from pathlib import Path
from pkgutil import iter_modules, walk_packages

import attrs

import worker
from deploy import commands, dashboard, sizing
from tests.benchmarks import page_table, table
from worker import errors
from worker.settings import Settings

SETTINGS_PAGE = Path("deploy/SETTINGS.md")

#: Defaults that depend on the machine, in words.
MACHINE_DEFAULTS = {"model": "the one that ships", "processes": "one a core"}

#: A file, what a program would write there, and the command that writes it.
WRITTEN: tuple[tuple[Path, Callable[[], str], str], ...] = (
    (commands.PAGE, commands.page, "deploy.commands"),
    (dashboard.FILE, dashboard.written, "deploy.dashboard"),
    (sizing.PAGE, sizing.page, "deploy.sizing"),
    (table.PAGE, lambda: table.with_table(table.PAGE.read_text(encoding="utf-8")), "tests.benchmarks.table --write"),
    (
        table.PAGE,
        lambda: page_table.with_table(table.PAGE.read_text(encoding="utf-8")),
        "tests.benchmarks.page_table --write",
    ),
)

#: The groups of the drawing in `worker/errors.py`: some words, then names, perhaps with remarks in parentheses.
GROUP = re.compile(r"[│ ] +(?:[├└]── [a-z ]+?|│) {2,}([A-Z].+)$", re.MULTILINE)

#: Inner nodes of that tree.
INNER = {errors.Rejected, errors.Interrupted, errors.Misconfigured}


#: Files at the top of `worker/` beside `__init__` and `__main__`, and rooms below it.
MOST_FILES, MOST_ROOMS = 5, 18


def unwritten() -> Iterator[str]:
    """Files that are not what their program writes."""
    for file, content, module in WRITTEN:
        if file.read_text(encoding="utf-8") != content():
            yield f"{relpath(file)} is not what it is made from: run `python -m {module}` and commit it"


def undrawn_errors() -> Iterator[str]:
    """Errors, wherever they are defined, that the drawing lacks, and drawn ones that are gone."""
    for module in walk_packages(worker.__path__, "worker."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    groups = re.sub(r" \([^)]*\)", "", "\n".join(GROUP.findall(errors.__doc__ or "")))
    drawn = set(re.findall(r"\w+", groups))
    there = {kind.__name__ for kind in below(errors.ScreeningError) if kind not in INNER}
    yield from (f"worker/errors.py draws {name}, and there is no such error" for name in sorted(drawn - there))
    yield from (f"worker/errors.py does not draw {name}" for name in sorted(there - drawn))


def below(root: type[errors.ScreeningError]) -> Iterator[type[errors.ScreeningError]]:
    """Every class that is derived from `root`."""
    for kind in root.__subclasses__():
        yield kind
        yield from below(kind)


def unlisted_settings() -> Iterator[str]:
    """Settings whose row of the page is missing or says something else, and rows of settings that are gone."""
    rows = [line for line in SETTINGS_PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `SCREENING_")]
    wanted = [row_of(field) for field in attrs.fields(Settings)]
    yield from (f"{SETTINGS_PAGE} lacks the row: {row}" for row in wanted if row not in rows)
    yield from (f"{SETTINGS_PAGE} has a row that no setting gives: {row}" for row in rows if row not in wanted)
    if sorted(rows) == sorted(wanted) and rows != wanted:
        yield f"{SETTINGS_PAGE} lists the settings in another order than worker/settings.py"


def crowded() -> Iterator[str]:
    """More files at the top of the worker, or more rooms, than a reader can keep in mind."""
    below_worker = [module for module in iter_modules(worker.__path__) if module.name != "__main__"]
    rooms = sum(module.ispkg for module in below_worker)
    for what, count, most in (
        ("files at its top", len(below_worker) - rooms, MOST_FILES),
        ("rooms", rooms, MOST_ROOMS),
    ):
        if count > most:
            yield f"worker/ has {count} {what}, {most} at most: find the room that a new file belongs to"


def row_of(field: "attrs.Attribute[object]") -> str:
    """A setting's row: variable, default, meaning."""
    default = MACHINE_DEFAULTS.get(field.name, f"`{field.default}`" if field.default != "" else "")
    return f"| `SCREENING_{field.name.upper()}` | {default} | {field.metadata['meaning']} |"


if __name__ == "__main__":
    sys.exit("\n".join([*unwritten(), *undrawn_errors(), *unlisted_settings(), *crowded()]) or 0)
