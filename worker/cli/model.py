"""The verbs about models: show, list, promote, rollback, shadow, retire."""

import json
from pathlib import Path
from typing import Any

import click

from worker.cli import options
from worker.cli.options import as_json, by
from worker.registry.card_gates import GATES

file = click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
reason = click.option("--reason", default="", metavar="TEXT", help="Why; kept for the audit.")

CHANGES = "running workers use it from their next message on"


@click.group(cls=options.Verbs)
def model() -> None:
    """Show and list models; promote, roll back, shadow or retire one."""


@model.command()
@as_json
def show(as_json: bool) -> None:
    """Print the card of the active model."""
    from worker.inference.card import CARD_KEY
    from worker.registry.registry import open_in_force

    opened, place, registry_state = open_in_force(options.settings(), "cpu")
    card = opened.card
    values = json.loads(card.to_metadata()[CARD_KEY])
    values |= {
        "file": place,
        "digest": opened.digest,
        "standing": "active",
        "shadow": registry_state.shadow,
        "reference": None if card.reference is None else card.reference.summary,
        "goldens": [{"name": g.name, "probability": g.probability, "tolerances": g.tolerances} for g in card.goldens],
    }
    if as_json:
        options.print_json(values)
        return
    from worker.cli.card_page import print_card

    print_card(values)


@model.command("list")
@as_json
def list_models(as_json: bool) -> None:
    """Print every model of this installation and the decisions about it, the active one first."""
    rows = _registry().listed()
    if as_json:
        options.print_json(rows)
        return
    from worker.cli.tables import print_models

    print_models(rows)


@model.command()
@file
@click.option("--comparison", type=click.Path(path_type=Path), help="comparison.json of `trainer compare`.")
@click.option("--force", is_flag=True, help="Promote against or without a comparison; needs --reason.")
@click.option("--accept-lower-sensitivity", is_flag=True, help="Promote although more pneumonias are missed.")
@click.option(
    "--drop-gate", "dropped", type=click.Choice(list(GATES)), multiple=True, help="A limit the new model may lack."
)
@reason
@by
def promote(
    file: Path,
    comparison: Path | None,
    force: bool,
    accept_lower_sensitivity: bool,
    dropped: tuple[str, ...],
    reason: str,
    by: str,
) -> None:
    """Make the model in FILE the active one, if the comparison with the active model allows it."""
    from worker.ledger.clocks import now
    from worker.registry.registry import Waiver

    waiver = Waiver(force, accept_lower_sensitivity, reason, dropped)
    held = _registry().promote(file, comparison, by, now(), waiver)
    click.echo(f"{file.name} is the active model: {held}; {CHANGES}")


@model.command()
@reason
@by
def rollback(reason: str, by: str) -> None:
    """Make the previously active model the active one again."""
    from worker.ledger.clocks import now

    digest = _registry().rollback(by, reason or None, now())
    click.echo(f"{digest[:12]} is the active model again; {CHANGES}")


@model.command()
@file
@by
def shadow(file: Path, by: str) -> None:
    """Let the model in FILE score too, as the shadow; people see only the verdicts of the active model."""
    from worker.ledger.clocks import now

    digest = _registry().shadow(file, by, now())
    click.echo(f"{digest[:12]} is the shadow; {CHANGES}; `worker model retire {digest[:12]}` ends it")


@model.command()
@click.argument("digest", metavar="DIGEST")
@reason
@by
def retire(digest: str, reason: str, by: str) -> None:
    """Retire a model: it can be neither active nor shadow again. DIGEST may be its first digits."""
    from worker.ledger.clocks import now

    found = _registry().retire(digest, by, reason or None, now())
    click.echo(f"{found[:12]} is retired; its file and its results are kept")


def _registry() -> Any:
    from worker.registry.registry import Registry

    database, store = options.ledger()
    return Registry(options.settings(), database, store)
