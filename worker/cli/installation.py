"""The verbs about an installation: check, reconcile, settings, db."""

import sys
from pathlib import Path

import click

from worker.cli import options
from worker.cli.exit_codes import Exit
from worker.cli.options import as_json


@click.group(cls=options.Verbs)
def db() -> None:
    """Upgrade the database."""


@click.command()
@as_json
def reconcile(as_json: bool) -> None:
    """Check that every file and every study is accounted for; exit 1 when one is not."""
    from worker.monitoring import reconciliation

    database, store = options.ledger()
    account = reconciliation.reconcile(database, store)
    if as_json:
        options.print_json(account.to_json())
    else:
        from worker.cli.tables import print_account

        print_account(account)
    sys.exit(Exit.OK if account.holds else Exit.NOT_WELL)


@click.command()
@click.argument(
    "inboxes", metavar="[INBOX]...", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@as_json
def check(inboxes: tuple[Path, ...], as_json: bool) -> None:
    """Check database, broker, model, provider, decoder, store, disk and the longest wait: one line each.

    For each INBOX one more: whether its files are linked into the store, or why they are copied. Ask as the user of
    the service. Exit 1, with the remedy, when a check fails.
    """
    from worker.intake.link_probe import how_taken_in
    from worker.monitoring import health

    if not as_json:
        options.print_in_use()
    results = health.check(options.settings())
    results += [health.CheckResult("inbox", True, how_taken_in(inbox, options.settings())) for inbox in inboxes]
    if as_json:
        options.print_json([vars(result) for result in results])
    else:
        for result in results:
            click.echo(f"{'ok  ' if result.is_well else 'FAIL'}  {result.what:9} {result.message}")
    sys.exit(Exit.OK if all(result.is_well for result in results) else Exit.NOT_WELL)


@click.command()
@click.option("--shell", is_flag=True, help="Print home, database and store as shell variables, passwords too.")
@as_json
def settings(shell: bool, as_json: bool) -> None:
    """Print every setting, its value and where the value comes from."""
    from worker.runtime import configuration

    if shell:
        click.echo(configuration.places_for_a_shell())
        return
    rows = configuration.load_with_origins()
    if as_json:
        options.print_json([{"name": n, "value": str(v), "origin": o, "meaning": m} for n, v, o, m in rows])
        return
    from worker.cli.tables import print_table

    print_table(
        "Settings",
        ("environment", "value", "from", "meaning"),
        (
            (f"{configuration.ENV_PREFIX}{name.upper()}", value, origin, meaning)
            for name, value, origin, meaning in rows
        ),
        whole="environment",
    )


@db.command("upgrade")
def db_upgrade() -> None:
    """Bring the database to the newest migration."""
    from schema.database import HEAD
    from worker.ledger.connect import upgrade

    upgrade(options.settings())
    click.echo(f"the database is at migration {HEAD}")
