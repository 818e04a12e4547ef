"""`worker screen`: takes files and folders in as complete, and waits for their studies."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import attrs

from schema.vocabulary import FileState, StudyState
from worker.errors import Misconfigured
from worker.imaging.image_file import AN_ARCHIVE
from worker.intake.folder_scan import files_in, incoming
from worker.intake.reader import IntakeRequest
from worker.intake.sweep import sweep
from worker.ledger.clocks import now
from worker.ledger.intake.arrivals import Registration
from worker.ledger.screening import outbox
from worker.service.service import BATCH_QUIET_S, SWEEP_S, RunningService
from worker.worklist import underway

#: Called repeatedly with the stage, and how many files or studies of how many are done.
Progress = Callable[[str, int, int], None]

#: Time between two queries of the ledger while studies are waited for.
POLL_S = 0.2

#: When no study has ended for this time, the store is tested, so that an outage is reported.
STALLED_S = 20.0

ENDED = (StudyState.SCREENED, StudyState.FAILED)


@dataclass(frozen=True)
class ScreenedPaths:
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


def screen_paths(service: RunningService, paths: Sequence[Path], progress: Progress) -> ScreenedPaths:
    """Take in these files and folders as complete, have their studies screened, and wait for all of them.

    With a private queue, waiting studies of an earlier batch are included. Raises StorageUnavailable when no study ends
    because the store cannot be written, BrokerUnavailable and DatabaseUnavailable when an outage lasts too long.
    """
    database, unlisted = service.intake.database, list[str]()
    sweeps = _Sweeps(service)
    resumed = underway.pending(database) if service.worker is not None and service.settings.is_embedded else []
    booked = []
    for one in _take_in(service, paths, unlisted, progress):
        booked.append(one)
        sweeps.run_if_due()
    files = {state: sum(b.state is state for b in booked) for state in {b.state for b in booked}}
    own = dict.fromkeys(b.study_uid for b in booked if b.study_uid)
    study_uids = list(dict.fromkeys([*own, *resumed]))
    outbox.settle(database, study_uids, now())
    states = _wait_until_ended(service, study_uids, progress)
    verdicts = underway.verdicts(database, list(own))
    archives = sum(b.message.startswith(AN_ARCHIVE) for b in booked)
    return ScreenedPaths(files, list(own), len(study_uids) - len(own), states, verdicts, unlisted, archives)


def _take_in(
    service: RunningService, paths: Sequence[Path], unlisted: list[str], progress: Progress
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
    settings = attrs.evolve(service.settings, study_quiet_s=BATCH_QUIET_S)
    intake = replace(service.intake, settings=settings)
    requests = (IntakeRequest(file, inbox, is_final=True, is_settled=False) for file, inbox in found)
    progress("taking in", 0, len(found))
    for done, taken in enumerate(intake.take_in_all(requests, now), start=1):
        if taken.refused is not None:
            raise taken.refused
        yield taken.booked
        progress("taking in", done, len(found))


def _wait_until_ended(service: RunningService, study_uids: Sequence[str], progress: Progress) -> dict[str, int]:
    """Sweep until each of these studies is SCREENED or FAILED; returns how many are in each state."""
    database, sweeps = service.intake.database, _Sweeps(service)
    before, since = 0, time.monotonic()
    while True:
        sweeps.run_if_due()
        states = service.outage_wait.retry("states", lambda: underway.states(database, study_uids))
        ended = sum(states.get(state, 0) for state in ENDED)
        progress("screening", ended, len(study_uids))
        if ended == len(study_uids):
            return states
        service.check()
        if ended != before:
            before, since = ended, time.monotonic()
        elif time.monotonic() - since > STALLED_S:
            service.intake.store.prove_writable()
            log = f"{service.settings.home}/logs/worker.log"
            service.outage_wait.say(f"no study has ended for {STALLED_S:g} s: see {log}")
            since = time.monotonic()
        time.sleep(POLL_S)


@dataclass
class _Sweeps:
    """The sweeps of this process, one each SWEEP_S; the first is due at once."""

    service: RunningService
    next_s: float = 0.0

    def run_if_due(self) -> None:
        """Sweep, unless the last sweep was a short time ago."""
        from worker.app import backlog, enqueue

        if time.monotonic() < self.next_s:
            return
        database, settings, outage_wait = self.service.intake.database, self.service.settings, self.service.outage_wait
        with outage_wait.asking_broker():  # what is not offered now is offered by the next sweep
            outage_wait.attempt("sweep", lambda: sweep(database, settings, enqueue, backlog, now()))
        self.next_s = time.monotonic() + SWEEP_S
