"""The verb `worker calibrate`: a point of the active model from the readers' verdicts, with `trainer` as a child."""

import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from worker.cli import options
from worker.errors import BadData, NoTrainer

#: Names in the output folder.
LABELS = "labels"
ACTIVE = "active.onnx"
FACTORY = "factory.onnx"
POINT = "point.onnx"
PICTURE = "trade_off.svg"
COMPARED = "compared"


@click.command()
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="A new folder."
)
@options.since("Studies received on this day (UTC) and later.")
@click.option(
    "--rule",
    default="target-specificity=0.85",
    show_default=True,
    help="Rule of the threshold, as for `trainer calibrate`.",
)
@click.option(
    "--place", default="this installation", show_default=True, help="Where the images are from, for the card."
)
@click.option("--accept-lower-sensitivity", is_flag=True, help="Promote although more pneumonias are missed.")
@click.option("--trainer", metavar="PROGRAM", help="Path of the program `trainer`, where it is in another environment.")
@click.option("--yes", is_flag=True, help="Promote without asking.")
@options.by
def calibrate(
    out: Path,
    since: datetime | None,
    rule: str,
    place: str,
    accept_lower_sensitivity: bool,
    trainer: str | None,
    yes: bool,
    by: str,
) -> None:
    """Set the active model's threshold from readers' verdicts, show what it gives, and promote it when you confirm.

    Takes consecutive studies only, every one of them read. Nothing is promoted without confirmation.
    """
    from worker.export.consecutive import consecutive
    from worker.ledger.clocks import now

    child = _trainer(trainer)
    database, store = options.ledger()
    stretch = consecutive(database, options.start_of(since))
    click.echo(stretch.says)
    _export(database, store, out, stretch, by)
    active, factory = _models(store, out)
    accepted = ["--accept-lower-sensitivity"] if accept_lower_sensitivity else []
    data = ["--data", out / LABELS]
    made = _run(
        child, "calibrate", factory, *data, "--rule", rule, "--place", f"{place}, {_days(stretch)}", *accepted,
        "--picture", out / PICTURE, "--out", out / POINT, "--json",
    )  # fmt: skip
    _run(child, "compare", active, out / POINT, *data, "--out", out / COMPARED, "--json")
    _show(made, out)
    compared = out / COMPARED / "comparison.json"
    promote = ["worker", "model", "promote", str(out / POINT), "--comparison", str(compared), "--by", by, *accepted]
    is_confirmed = yes or (sys.stdin.isatty() and click.confirm("Promote this point?", default=False))
    if not is_confirmed:
        click.echo(f"nothing was promoted; to do it: {shlex.join(promote)}")
        return
    from worker.registry.registry import Registry, Waiver

    registry = Registry(options.settings(), database, store)
    waiver = Waiver(lower_sensitivity=accept_lower_sensitivity, reason=made["rule"])
    held = registry.promote(out / POINT, compared, by, now(), waiver)
    click.echo(f"{made['model']} is the active model: {held}")


def _trainer(named: str | None) -> list[str]:
    """The words that start `trainer`: the one named, that of this environment, or one on the path."""
    if named is not None:
        return [named]
    if all(importlib.util.find_spec(name) for name in ("onnx", "matplotlib")):
        return [sys.executable, "-m", "trainer"]
    found = shutil.which("trainer")
    if found is None:
        raise NoTrainer(
            "`trainer` is not installed beside this program: install it in an environment of its own with `pip install"
            " 'chest-screening[trainer]'` (or `make .venv/dev.stamp`), and name it with --trainer"
        )
    return [found]


def _export(database: Any, store: Any, out: Path, stretch: Any, by: str) -> None:
    from schema.vocabulary import ReviewOutcome
    from worker.export import labels
    from worker.imaging.limits import Limits

    lacking = [o for o in (ReviewOutcome.PNEUMONIA, ReviewOutcome.NO_PNEUMONIA) if stretch.count(o) < 2]
    if lacking:
        raise BadData(
            f"fewer than two consecutive studies read as {' or '.join(lacking)}: read on before you calibrate"
        )
    exported = labels.export(
        database,
        store,
        out / LABELS,
        since=options.start_of(None),
        limits=Limits(max_pixel_bytes=options.settings().max_pixel_bytes),
        by=by,
        only=frozenset(study.study_uid for study in stretch.studies),
        is_unseen=stretch.is_blind,
    )
    why = "; ".join(f"{n} {reason}" for reason, n in sorted(exported.left_out.items()))
    click.echo(f"{exported.images} images of {exported.studies} studies in {out / LABELS}; left out: {why or 'none'}")


def _models(store: Any, out: Path) -> tuple[Path, Path]:
    """Paths of a copy of the active model's file, and of a copy of the file with the factory's point.

    Both are the same file unless the active model's point was set at a site.
    """
    from worker.registry.registry import open_in_force
    from worker.store import MODELS

    opened, place, registry_state = open_in_force(options.settings(), "cpu")
    active, factory = out / ACTIVE, out / FACTORY
    content = Path(place).read_bytes() if registry_state.active is None else store.get(MODELS, opened.digest)
    active.write_bytes(content)
    if opened.card.site is None:
        return active, active
    factory.write_bytes(store.get(MODELS, opened.card.site.factory_digest))
    return active, factory


def _run(child: list[str], *words: object) -> Any:
    """Run a verb of `trainer` and return its JSON answer; progress is on standard error. Raises BadData, NoTrainer."""
    try:
        done = subprocess.run([*child, *map(str, words)], stdout=subprocess.PIPE, check=False)
    except OSError as error:
        raise NoTrainer(
            f"{child[0]} cannot be started ({error.strerror}): give --trainer the path of `trainer`"
        ) from error
    if done.returncode:
        raise BadData(f"`trainer {words[0]}` ended with {done.returncode}; it says why above. Nothing was promoted")
    return json.loads(done.stdout)


def _show(made: Any, out: Path) -> None:
    """Print the trade-off as a table, the rates with 95 % intervals, the card's remarks, and the picture's path."""
    from worker.cli.tables import print_table

    rows = [
        (
            f"{choice['threshold']:.4f}",
            choice["name"],
            f"{choice['found']} of {choice['positives']}",
            f"{choice['left_alone']} of {choice['normals']}",
        )
        for choice in made["choices"]
    ]
    title = "Trade-off; thresholds are on the scale of the calibrated file"
    print_table(title, ("threshold", "", "found", "normals left alone"), rows)
    chosen = made["choices"][1]
    click.echo(
        f"at {chosen['threshold']:.4f}: {chosen['found']} of {chosen['positives']} found, {chosen['left_alone']} of"
        f" {chosen['normals']} normals left alone; {made['rule']}"
    )
    for name in ("sensitivity", "specificity"):
        now, factory = (_with_interval(made["site"][each]) for each in (name, f"factory_{name}"))
        click.echo(f"{name} {now} on {made['site'][name]['n']} images; the factory's point: {factory}")
    for remark in made["site"]["remarks"]:
        click.echo(remark)
    click.echo(f"picture: {out / PICTURE}")


def _with_interval(estimate: Any) -> str:
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def _days(stretch: Any) -> str:
    first, last = stretch.studies[0].received_at, stretch.studies[-1].received_at
    return f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
