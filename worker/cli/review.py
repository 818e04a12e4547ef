"""The verbs by which people decide on a study: review, prioritise, requeue."""

import click

from schema.vocabulary import Priority, ReviewOutcome
from worker.cli import options
from worker.cli.options import asked_by, by, study


@click.command()
@study
@asked_by
def requeue(study: str, by: str) -> None:
    """Have a failed or screened study screened afresh."""
    from worker.ledger import decisions
    from worker.ledger.connect import now

    settings, database = options.settings(), options.ledger()[0]
    uid = decisions.requeue(database, options.study_uid(database, study), settings, now(), by)
    click.echo(f"{uid} waits to be screened again: by a running `worker run`, or by the next `worker screen`")


@click.command()
@study
@click.argument("priority", type=click.Choice([str(p) for p in (Priority.STAT, Priority.ROUTINE)]))
@by
def prioritise(study: str, priority: str, by: str) -> None:
    """Give a study a priority in a person's name."""
    from worker.ledger import decisions
    from worker.ledger.connect import now

    database = options.ledger()[0]
    decisions.prioritise(database, options.study_uid(database, study), Priority(priority), by, now())
    click.echo(f"{study} is {priority}")


@click.command()
@study
@click.option("--verdict", required=True, type=click.Choice([str(o) for o in ReviewOutcome]), help="What was found.")
@click.option("--reader", required=True, metavar="NAME", callback=options.named, help="Who read it.")
@click.option("--comment", callback=options.worded, help="In the reader's words.")
def review(study: str, verdict: str, reader: str, comment: str | None) -> None:
    """Keep a reader's verdict and take the study off the list. Reviews are never edited; the newest one counts."""
    from worker.ledger import decisions
    from worker.ledger.connect import now

    database = options.ledger()[0]
    decisions.review(database, options.study_uid(database, study), ReviewOutcome(verdict), reader, comment, now())
    click.echo(f"{study}: {verdict}, read by {reader}")
