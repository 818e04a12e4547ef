"""The verbs `worker receive` and `worker send`."""

from typing import TYPE_CHECKING

import click

from worker.cli import options
from worker.cli.options import as_json

if TYPE_CHECKING:
    from worker.ledger.dispatch.undelivered import Stuck


#: Longest life of `worker receive` and `worker send` after SIGTERM, seconds.
END_WITHIN_S = 28.0


@click.command()
def receive() -> None:
    """Receive images by DICOM (C-STORE, C-ECHO) until interrupted; SIGTERM lets the associations under way end.

    It listens on this machine only, and takes images from nobody, until SCREENING_RECEIVE_HOST and _FROM say more.
    A `worker run` or `worker watch` of the same installation has the studies screened.
    """
    from worker.runtime import logs

    settings = options.settings()
    logs.configure(settings.log_level)
    options.require_extra("dicom", "pynetdicom")
    from worker.dicom.receive import service
    from worker.runtime.stop_signals import stop_requested

    stop = stop_requested(END_WITHIN_S)
    with service.receiving(settings) as receiver:
        click.echo(f"{settings.ae_title} on {settings.receive_host} port {receiver.port}; SIGTERM stops", err=True)
        stop.wait()


@click.command()
@click.option("--once", is_flag=True, help="Send what is due now, and end.")
@click.option("--stuck", is_flag=True, help="List the results that an archive refused, or that were given up, and end.")
@click.option("--retry", is_flag=True, help="Make those due again, and end; `worker send` then sends them.")
@as_json
def send(once: bool, stuck: bool, retry: bool, as_json: bool) -> None:
    """Send results to the archive that SCREENING_SEND names, until interrupted."""
    from worker.ledger.clocks import now
    from worker.ledger.dispatch import undelivered
    from worker.runtime import logs

    settings = options.settings()
    if stuck or retry:
        database, _ = options.ledger()
        if retry:
            click.echo(f"{undelivered.retry(database, now())} results are due again")
        if stuck:
            _print_stuck(undelivered.needing_a_person(database), as_json)
        return
    logs.configure(settings.log_level)
    options.require_extra("dicom", "highdicom")
    from worker.dicom.send import sender
    from worker.runtime.stop_signals import stop_requested

    stop = stop_requested(END_WITHIN_S)
    with sender.sending(settings) as sending:
        if once:
            while not stop.is_set() and sending.turn(stop):
                pass
            return
        click.echo(f"results go to {settings.send}; SIGTERM stops", err=True)
        sending.run(stop)


def _print_stuck(found: "list[Stuck]", as_json: bool) -> None:
    if as_json:
        options.print_json([vars(each) for each in found])
        return
    from worker.cli.tables import print_table

    rows = [(each.study_uid, each.kind, each.state, each.destination, each.answer or "") for each in found]
    print_table("Results that need a person", ("study", "object", "state", "destination", "last answer"), rows)
