"""The verb `worker receive`."""

import signal
import threading

import click

from worker.cli import options


@click.command()
def receive() -> None:
    """Receive images by DICOM (C-STORE, C-ECHO) until interrupted; SIGTERM lets the associations under way end.

    It listens on this machine only, and takes images from nobody, until SCREENING_RECEIVE_HOST and _FROM say more.
    A `worker run` or `worker watch` of the same installation has the studies screened.
    """
    from worker.runtime import logs

    in_force = options.settings()
    logs.configure(in_force.log_level)
    options.require_extra("dicom", "pynetdicom")
    from worker.dicom import service

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with service.receiving(in_force) as receiver:
        click.echo(f"{in_force.ae_title} on {in_force.receive_host} port {receiver.port}; SIGTERM stops", err=True)
        stop.wait()
