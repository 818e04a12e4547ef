"""`worker watch` and `worker run`: an inbox is watched until the process is told to stop."""

import logging
import threading
from pathlib import Path

from worker.errors import Misconfigured
from worker.intake.link_probe import how_taken_in
from worker.intake.watcher import Watcher
from worker.ledger.clocks import now
from worker.ledger.database_clock import ComparedClock
from worker.monitoring.drift.evaluate import DriftSchedule
from worker.runtime.stop_signals import stop_requested
from worker.service.service import RunningService

log = logging.getLogger(__name__)


def watch_inbox(service: RunningService, inbox: Path) -> None:
    """Watch an inbox until SIGTERM or SIGINT; studies in work are finished before the services stop.

    Drift is evaluated once a night.
    """
    from worker.app import backlog, enqueue

    stop = stop_requested()
    lease_clock = ComparedClock(service.intake.database)
    watcher = Watcher(service.intake, inbox, enqueue, backlog, now, lease_clock=lease_clock)
    log.info("inbox_opened", extra={"how": how_taken_in(inbox, service.settings)})
    drift_schedule = DriftSchedule(service.intake.database, now)
    thread = threading.Thread(target=watcher.run, args=[stop], name="watcher")
    thread.start()
    try:
        while not stop.wait(1.0):
            service.check()
            drift_schedule.run_if_due()
            if not thread.is_alive():
                raise Misconfigured("the watcher ended by itself: see the log above")
    finally:
        stop.set()
        thread.join()
