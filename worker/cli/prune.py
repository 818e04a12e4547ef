"""The verb `worker prune`."""

from datetime import timedelta

import click

from worker.cli import options
from worker.cli.exit_codes import Exit

#: Days after reading until a study is pruned: a year, for questions about it.
DEFAULT_DAYS = 365


@click.command()
@click.option(
    "--older-than",
    default=DEFAULT_DAYS,
    show_default=True,
    metavar="DAYS",
    type=click.IntRange(1, 36_500),
    help="Prune what was read, or quarantined, so many days ago.",
)
@click.option(
    "--quota",
    type=click.IntRange(min=1),
    metavar="MIB",
    help="Then prune what was read the longest ago, down to this size. [default: SCREENING_STORE_QUOTA_MIB]",
)
@options.asked_by
def prune(older_than: int, quota: int | None, by: str) -> None:
    """Remove received objects and overlays of studies that were read long ago, never of an unread study.

    Verdicts, reviews and counts stay. What was removed cannot be screened again or exported as labels.
    Exit 1: the store is still above the quota.
    """
    from schema.vocabulary import AuditAction
    from worker.ledger import audit, pruning
    from worker.ledger.clocks import now

    database, store = options.ledger()
    quota = quota or options.settings().store_quota_mib
    asked = f"read {older_than} days ago" + (f", then down to {quota} MiB" if quota else "")
    audit.note(database, AuditAction.PRUNED, by, now(), detail=asked)
    quota_bytes = quota * 2**20 if quota else None
    pruned = pruning.prune(database, store, now(), timedelta(days=older_than), quota_bytes)
    click.echo(pruned.sentence)
    if quota_bytes is not None and pruned.kept_bytes > quota_bytes:
        click.echo(
            "worker: still above the quota: all that is left is unread, in work, quarantined, or came within a day",
            err=True,
        )
        raise SystemExit(Exit.NOT_WELL)
