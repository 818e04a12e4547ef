"""The verb `worker web`: the page for radiologists."""

import logging
import socket

import click

from worker.cli import options


@click.command()
def web() -> None:
    """Serve the page for radiologists (list, picture, verdict), until interrupted.

    It listens on this machine only, unless TLS or a proxy is configured. Accounts: `worker user add`.
    """
    from worker.runtime import logs
    from worker.web.network_exposure import check_exposure

    settings = options.settings()
    how = check_exposure(settings)
    from worker.ledger.reading_room import accounts
    from worker.web.page_context import PageContext
    from worker.web.server import server

    logs.configure(settings.log_level)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    context = PageContext.open(settings)
    click.get_current_context().call_on_close(context.close)
    if accounts.count(context.database) == 0:
        click.echo("there is no account yet: worker user add NAME --role reader --by YOU", err=True)
    with _listener(settings.web_host, settings.web_port) as listener:
        scheme = "https" if context.is_over_tls else "http"
        port = listener.getsockname()[1]
        click.echo(f"{scheme}://{settings.web_host}:{port}/ ({how}); Ctrl-C or SIGTERM stops", err=True)
        server(settings, context).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    from worker.errors import Misconfigured

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        raise Misconfigured(
            f"cannot listen on {host} port {port} ({error.strerror}): set SCREENING_WEB_HOST and _PORT"
        ) from error
