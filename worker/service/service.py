"""A running installation: ledger, private broker and intake, opened in their order and stopped in the reverse one."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from worker.decoding.decoder import Decoder
from worker.errors import DatabaseShared, Interrupted, Misconfigured
from worker.intake.ingest import Intake
from worker.ledger.clocks import now
from worker.ledger.connect import open_database
from worker.ledger.offering_lock import Offering, offering
from worker.ledger.operations import promotions
from worker.ledger.screening import claims
from worker.runtime import home
from worker.runtime.children import worker_log
from worker.runtime.redis_server import PrivateBroker, private_broker
from worker.service.outage_wait import OutageWait
from worker.settings import Settings
from worker.store import MODELS, open_store

#: Time between two sweeps while `worker screen` or `worker batch` waits for studies.
SWEEP_S = 1.0

#: `worker screen` and `worker batch` have a study screened after this time without another image, while later files are
#: still taken in. A later image reopens the study, which is then screened again.
BATCH_QUIET_S = 2.0


@dataclass(frozen=True)
class RunningService:
    """A running installation: its intake, and the queue worker if this process started it."""

    settings: Settings
    intake: Intake
    worker: "subprocess.Popen[bytes] | None"
    broker: PrivateBroker | None = None
    host: home.Holder | None = None  #: the `worker run` that screens for this process
    outage_wait: OutageWait = field(default_factory=OutageWait)
    offering: Offering | None = None  #: the right to offer studies, if this process offers any
    worker_log_from: int = 0  #: where the log of this queue worker begins

    def check(self) -> None:
        """Start the private Redis again when it has ended; take the lock of a shared database again when it was lost.

        Raises Misconfigured, with the end of its log, when the queue worker of this process has ended; DatabaseShared
        when others hold the lock now; Interrupted when the host has ended.
        """
        if self.offering is not None:
            self.offering.keep()
        if self.host is not None and not self.host.is_alive:
            raise Interrupted(
                f"`worker {self.host.role}` (process {self.host.pid}), which screened for us, has ended:"
                " what was taken in is kept; the same command continues"
            )
        if self.broker is not None:
            self.broker.revive()
        if self.worker is not None and self.worker.poll() is not None:
            raise self._worker_ended()

    def _worker_ended(self) -> Misconfigured:
        """Why the queue worker has ended, as far as its log says. Raises BrokerUnavailable when that is the reason."""
        from worker.app import prove_broker_usable

        if not self.settings.is_embedded:
            prove_broker_usable()  # Celery ends when its broker takes nothing
        log = worker_log(self.settings)
        content = log.read_bytes()
        begins_at = self.worker_log_from if self.worker_log_from <= len(content) else 0  # `copytruncate`
        lines = content[begins_at:].decode(errors="replace").strip().splitlines()[-3:]
        return Misconfigured(f"the queue worker ended by itself: {' | '.join(lines)} (whole log: {log})")


@contextmanager
def running_service(installation: home.Home, outage_wait: OutageWait | None = None) -> Iterator[RunningService]:
    """Start ledger, private Redis and intake, as far as they are needed, and stop them at the end."""
    settings, outage_wait = installation.settings, outage_wait or OutageWait()
    with ExitStack() as stack:
        database = outage_wait.retry("open", lambda: open_database(settings, outage_wait.watch))
        stack.enter_context(closing(database))
        decoder = stack.enter_context(closing(Decoder.of(settings)))
        intake = Intake(settings, database, open_store(settings), decoder)
        intake.store.free_mib()
        broker = offering_right = None
        if installation.host is None:
            offering_right = stack.enter_context(offering(database, settings))
            _require_its_store(settings, intake)
        if settings.is_embedded and installation.host is None:
            claims.recover(database, settings, now())
            broker = stack.enter_context(private_broker(settings))
        stack.callback(installation.worker_stack.close)  # before its broker
        installation.gate.open()
        yield RunningService(
            settings,
            intake,
            installation.worker,
            broker,
            installation.host,
            outage_wait,
            offering_right,
            installation.worker_log_from,
        )


def _require_its_store(settings: Settings, intake: Intake) -> None:
    """Raise DatabaseShared when the store is not that of a database which others use too: it lacks the active model."""
    if not settings.database:
        return
    active = promotions.registry_state(intake.database).active
    if active is not None and not intake.store.has(MODELS, active):
        raise DatabaseShared(
            f"the active model of this database ({active[:12]}) is not in this store, so neither are its images: set"
            " SCREENING_STORE to the store that belongs to the database, or restore that"
        ).about(intake.store.name)
