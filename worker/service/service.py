"""The running installation: opens the ledger, starts the embedded broker, screens a batch, watches a folder."""

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import attrs

from schema.vocabulary import FileState, StudyState
from worker.decoding.decoder import Decoder
from worker.errors import DatabaseShared, Interrupted, Misconfigured
from worker.imaging.image_file import AN_ARCHIVE
from worker.intake.folder_scan import files_in, incoming
from worker.intake.ingest import Intake
from worker.intake.link_probe import how_taken_in
from worker.intake.reader import IntakeRequest
from worker.intake.sweep import sweep
from worker.intake.watcher import Watcher
from worker.ledger.connect import now, open_database
from worker.ledger.intake.arrivals import Registration
from worker.ledger.offering_lock import Offering, offering
from worker.ledger.operations import promotions
from worker.ledger.screening import claims, outbox
from worker.monitoring.drift.evaluate import DriftSchedule
from worker.runtime import home
from worker.runtime.children import worker_log
from worker.runtime.redis_server import PrivateBroker, private_broker
from worker.runtime.stop_signals import stop_requested
from worker.service.outage_wait import OutageWait
from worker.settings import Settings
from worker.store import MODELS, open_store
from worker.worklist import queries

log = logging.getLogger(__name__)

#: Time between two queries of the ledger while a batch is screened.
POLL_S = 0.2

#: When no study has ended for this time, the store is tested, so that an outage is reported.
STALLED_S = 20.0

#: Time between two sweeps while a batch is screened.
SWEEP_S = 1.0

#: Within a batch a study is screened after this time without another image, while later files are still taken in. A
#: later image reopens the study, which is then screened again.
BATCH_QUIET_S = 2.0

ENDED = (StudyState.SCREENED, StudyState.FAILED)


@dataclass(frozen=True)
class Batch:
    """The files and studies of one `worker screen`, by outcome."""

    files: dict[FileState, int]
    study_uids: list[str]
    resumed: int  #: studies of earlier batches that were still waiting
    states: dict[str, int]
    verdicts: dict[str, int]
    unlisted: list[str]  #: folders that could not be listed
    archives: int = 0  #: files that are archives, whose content was not looked at

    @property
    def is_complete(self) -> bool:
        """Whether every folder was listed and every study has its verdict."""
        return set(self.states) <= {StudyState.SCREENED} and not self.unlisted


@dataclass(frozen=True)
class Serving:
    """A running installation: its intake, and the queue worker if this process started it."""

    settings: Settings
    intake: Intake
    worker: "subprocess.Popen[bytes] | None"
    broker: PrivateBroker | None = None
    host: home.Holder | None = None  #: the `worker run` that screens for this process
    patience: OutageWait = field(default_factory=OutageWait)
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
            from worker.app import prove_broker_writable

            if not self.settings.is_embedded:
                prove_broker_writable()  # Celery ends when its broker takes nothing
            log = worker_log(self.settings)
            content = log.read_bytes()
            begins_at = self.worker_log_from if self.worker_log_from <= len(content) else 0  # `copytruncate`
            lines = content[begins_at:].decode(errors="replace").strip().splitlines()[-3:]
            raise Misconfigured(f"the queue worker ended by itself: {' | '.join(lines)} (whole log: {log})")


@contextmanager
def serving(installation: home.Home, patience: OutageWait | None = None) -> Iterator[Serving]:
    """Start ledger, private Redis and intake, as far as they are needed, and stop them at the end."""
    settings, patience = installation.settings, patience or OutageWait()
    with ExitStack() as stack:
        database = patience.insist("open", lambda: open_database(settings, patience.watch))
        stack.enter_context(closing(database))
        decoder = stack.enter_context(closing(Decoder.of(settings)))
        intake = Intake(settings, database, open_store(settings), decoder)
        intake.store.free_mib()
        broker = right = None
        if installation.host is None:
            right = stack.enter_context(offering(database, settings))
            _require_its_store(settings, intake)
        if settings.is_embedded and installation.host is None:
            claims.recover(database, settings, now())
            broker = stack.enter_context(private_broker(settings))
        stack.callback(installation.worker_stack.close)  # before its broker
        installation.gate.open()
        log_from = installation.worker_log_from
        yield Serving(settings, intake, installation.worker, broker, installation.host, patience, right, log_from)


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


def screen(serving: Serving, paths: Sequence[Path], progress: Callable[[str, int, int], None]) -> Batch:
    """Take in these files and folders as complete, have their studies screened, and wait for all of them.

    With a private queue, waiting studies of an earlier batch are included.

    `progress(stage, done, total)` is called repeatedly. Raises StorageUnavailable when no study ends because the store
    cannot be written, BrokerUnavailable and DatabaseUnavailable when patience is at its end.
    """
    from worker.app import backlog, enqueue

    next_sweep = 0.0

    def sweep_if_due() -> None:
        nonlocal next_sweep
        if time.monotonic() >= next_sweep:
            with serving.patience.asking_broker():  # what is not offered now is offered by the next sweep
                serving.patience.outlast("sweep", lambda: sweep(database, serving.settings, enqueue, backlog, now()))
            next_sweep = time.monotonic() + SWEEP_S

    database, unlisted = serving.intake.database, list[str]()
    resumed = queries.pending(database) if serving.worker is not None and serving.settings.is_embedded else []
    booked = []
    for one in _take_in(serving, paths, unlisted, progress):
        booked.append(one)
        sweep_if_due()
    files = {state: sum(b.state is state for b in booked) for state in {b.state for b in booked}}
    own = dict.fromkeys(b.study_uid for b in booked if b.study_uid)
    study_uids = list(dict.fromkeys([*own, *resumed]))
    outbox.settle(database, study_uids, now())
    next_sweep, before, since = 0.0, 0, time.monotonic()
    while True:
        sweep_if_due()
        states = serving.patience.insist("states", lambda: queries.states(database, study_uids))
        ended = sum(states.get(state, 0) for state in ENDED)
        progress("screening", ended, len(study_uids))
        if ended == len(study_uids):
            verdicts = queries.verdicts(database, list(own))
            archives = sum(b.message.startswith(AN_ARCHIVE) for b in booked)
            return Batch(files, list(own), len(study_uids) - len(own), states, verdicts, unlisted, archives)
        serving.check()
        if ended != before:
            before, since = ended, time.monotonic()
        elif time.monotonic() - since > STALLED_S:
            serving.intake.store.prove_writable()
            serving.patience.say(f"no study has ended for {STALLED_S:g} s: see {serving.settings.home}/logs/worker.log")
            since = time.monotonic()
        time.sleep(POLL_S)


def watch(serving: Serving, inbox: Path) -> None:
    """Watch an inbox until SIGTERM or SIGINT; studies in work are finished before the services stop.

    Drift is evaluated once a night.
    """
    from worker.app import backlog, enqueue

    stop = stop_requested()
    watcher = Watcher(serving.intake, inbox, enqueue, backlog, now)
    log.info("inbox_opened", extra={"how": how_taken_in(inbox, serving.settings)})
    drift_schedule = DriftSchedule(serving.intake.database, now)
    thread = threading.Thread(target=watcher.run, args=[stop], name="watcher")
    thread.start()
    try:
        while not stop.wait(1.0):
            serving.check()
            drift_schedule.run_if_due()
            if not thread.is_alive():
                raise Misconfigured("the watcher ended by itself: see the log above")
    finally:
        stop.set()
        thread.join()


def _take_in(
    serving: Serving, paths: Sequence[Path], unlisted: list[str], progress: Callable[[str, int, int], None]
) -> Iterator[Registration]:
    """Take in every file below the paths. A file that is a path itself is taken in whatever its name is."""
    found = []
    for path in paths:
        absolute = path.absolute()
        if absolute.is_dir():
            found += [(file, absolute) for file in files_in(absolute, lambda e: unlisted.append(str(e.filename)))]
        else:
            file = incoming(absolute)
            if file is None:
                raise Misconfigured("no such file or folder: nothing was taken in").about(str(path))
            found.append((file, absolute.parent))
    settings = attrs.evolve(serving.settings, study_quiet_s=BATCH_QUIET_S)
    intake = replace(serving.intake, settings=settings)
    requests = (IntakeRequest(file, inbox, is_final=True, is_settled=False) for file, inbox in found)
    progress("taking in", 0, len(found))
    for done, taken in enumerate(intake.take_in_all(requests, now), start=1):
        if taken.refused is not None:
            raise taken.refused
        yield taken.booked
        progress("taking in", done, len(found))
