"""The verbs `worker watch` and `worker run`, which run until they are stopped."""

from pathlib import Path

import click

from worker.cli import options
from worker.cli.options import inbox


@click.command()
@inbox
def watch(inbox: Path) -> None:
    """Watch a folder and enqueue what arrives, until interrupted. Queue workers run elsewhere."""
    _serve("watch", inbox, with_worker=False)


@click.command()
@inbox
def run(inbox: Path) -> None:
    """Watch a folder and screen what arrives, until interrupted; SIGTERM finishes the studies in work."""
    _serve("run", inbox, with_worker=True)


def _serve(role: str, inbox: Path, *, with_worker: bool) -> None:
    from worker.runtime import home, logs

    settings = options.settings()
    logs.configure(settings.log_level)
    with home.hold_home(settings, role, with_worker=with_worker) as installation:
        from worker.service.service import running_service
        from worker.service.watch_inbox import watch_inbox

        with running_service(installation) as service:
            click.echo(f"watching {inbox.absolute()}, state in {settings.home}; Ctrl-C or SIGTERM stops", err=True)
            watch_inbox(service, inbox.absolute())
