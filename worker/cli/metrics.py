"""The verb `worker metrics`."""

import signal
import threading

import click

from worker.cli import options


@click.command()
@click.option("--once", is_flag=True, help="Print the metrics and end.")
def metrics(once: bool) -> None:
    """Answer Prometheus (/metrics) and probes (/healthz, /readyz) over HTTP, until interrupted.

    The numbers come from database and broker, so one such process is enough for an installation of any size. It needs
    no password and listens on this machine only, unless SCREENING_METRICS_HOST names another address.
    """
    from prometheus_client import generate_latest

    from worker.monitoring import exporter
    from worker.runtime import logs

    settings = options.settings()
    logs.configure(settings.log_level)
    if once:
        click.echo(generate_latest(exporter.registry(settings)), nl=False)
        return
    with exporter.open_server(settings) as server:
        # `shutdown` waits for the loop that this signal interrupts
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        click.echo(f"http://{settings.metrics_host}:{server.server_port}/metrics; Ctrl-C or SIGTERM stops", err=True)
        server.serve_forever()
