"""The verbs for decisions on a study: review, withdraw, prioritise, requeue."""

import click

from schema.vocabulary import Priority, ReviewOutcome
from worker.cli import options
from worker.cli.options import asked_by, by, study


@click.command()
@study
@asked_by
def requeue(study: str, by: str) -> None:
    """Screen a failed or screened study again."""
    from worker.ledger import decisions
    from worker.ledger.clocks import now

    settings, database = options.settings(), options.ledger()[0]
    uid = decisions.requeue(database, options.study_uid(database, study), settings, now(), by)
    click.echo(f"{uid} waits to be screened again: by a running `worker run`, or by the next `worker screen`")


@click.command()
@study
@click.argument("priority", type=click.Choice([str(p) for p in (Priority.STAT, Priority.ROUTINE)]))
@click.option("--bring-back", is_flag=True, help="Return a study that was read to the list.")
@by
def prioritise(study: str, priority: str, bring_back: bool, by: str) -> None:
    """Set the priority of a study. A study that was read becomes STAT only with --bring-back."""
    from worker.ledger import decisions
    from worker.ledger.clocks import now

    database = options.ledger()[0]
    uid = options.study_uid(database, study)
    decisions.prioritise(database, uid, Priority(priority), by, now(), brings_back=bring_back)
    click.echo(f"{study} is {priority}{', and on the list again' if bring_back else ''}")


@click.command()
@study
@click.option("--verdict", required=True, type=click.Choice([str(o) for o in ReviewOutcome]), help="What was found.")
@click.option("--reader", required=True, metavar="NAME", callback=options.require_name, help="Who read it.")
@click.option("--comment", callback=options.require_utf8, help="The reader's comment.")
def review(study: str, verdict: str, reader: str, comment: str | None) -> None:
    """Store a reader's verdict and take the study off the list. Reviews are never edited; the newest one counts."""
    from worker.ledger import decisions
    from worker.ledger.clocks import now

    settings, database = options.settings(), options.ledger()[0]
    uid, outcome = options.study_uid(database, study), ReviewOutcome(verdict)
    done = decisions.review(database, uid, outcome, reader, comment, now(), settings.uncertain_review)
    stays = "" if done.leaves_the_list else "; it stays on the list (setting uncertain_review)"
    click.echo(f"{study}: {verdict}, read by {reader}{stays}")
    if done.contradicted:
        click.echo(f"this CONTRADICTS an earlier verdict ({done.contradicted}); both are kept, the newer one counts")


@click.command()
@study
@click.option("--reason", required=True, metavar="TEXT", callback=options.require_name, help="Why, for the audit.")
@by
def withdraw(study: str, reason: str, by: str) -> None:
    """Withdraw the verdict of a study, for example a mistake: the study returns to the list. All rows are kept."""
    from worker.ledger import decisions
    from worker.ledger.clocks import now

    database = options.ledger()[0]
    verdict = decisions.withdraw(database, options.study_uid(database, study), by, reason, now())
    click.echo(f"{study}: the verdict ({verdict}) is withdrawn, and the study is on the list again")
