"""The Celery tasks `screen_studies` and `start_batch`, and the models of each worker process."""

import logging
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import billiard
import cv2
from celery import Task
from celery.signals import celeryd_init, worker_process_init

from schema.database import CONNECTIONS, Database
from schema.setting_values import Silent
from schema.vocabulary import IdentifierMode, Process, Reason
from worker.app import HARD_TIME_LIMIT_S, SCREEN_STUDIES, app, settings
from worker.decoding.pool import DecoderPool
from worker.errors import (
    DatabaseUnavailable,
    DeviceUnavailable,
    Interrupted,
    Misconfigured,
    ProviderUnavailable,
    ScreeningError,
)
from worker.ledger import claims, device_failures, outbox
from worker.ledger.connect import now, wait_until_made
from worker.ledger.identifiers import check_database
from worker.ledger.leases import give_back, prolonged
from worker.ledger.outbox import LONGEST_COUNTDOWN_S
from worker.ledger.pending import PendingResults
from worker.ledger.results import Claim
from worker.ledger.signs_of_life import Signs
from worker.registry.loader import ModelLoader
from worker.runtime.at_once import for_each
from worker.runtime.error_place import place_of
from worker.runtime.gate import Gate
from worker.runtime.parent_death import die_with_parent
from worker.runtime.process_end import ProcessEnd
from worker.runtime.reconnect import Stall
from worker.schedule import beat
from worker.screen_study import DECODE_BUDGET_S, StudyScreener
from worker.settings import DECODER_DEADLINE_S
from worker.store import open_store

log = logging.getLogger(__name__)

app.steps["consumer"].add(Stall)

assert DECODE_BUDGET_S + 2 * DECODER_DEADLINE_S < HARD_TIME_LIMIT_S, "a study of hanging images would be killed"

#: Exit code of the trial process that opens the model before a worker serves.
REFUSED = 3


class StudyFailed(Exception):
    """Studies of this message failed by a bug; each study's row has the error, with the whole traceback."""


@app.task(name=SCREEN_STUDIES, bind=True, max_retries=None)
def screen_studies(self: Task, study_uids: list[str]) -> None:
    """Claim, screen and record each study separately. A message may come twice: finished studies are skipped.

    When a message comes again because its worker died, each of its studies gets a message of its own, so that a file
    which kills workers affects only its own study. The other studies of the message have lost one attempt.
    """
    if len(study_uids) > 1 and self.request.delivery_info.get("redelivered"):
        for study_uid in study_uids:
            queue = self.request.delivery_info["routing_key"]
            self.apply_async(args=[[study_uid]], queue=queue, headers=self.request.headers)
        return
    wait_s = countdown_s(self.request.retries)
    again_at = now() + timedelta(seconds=wait_s)
    try:
        if process_end.is_near:
            raise DeviceUnavailable("this process ends: its device failed")
        screener = open_screener()
    except ScreeningError as error:  # no study is claimed yet: the message waits until a model can be opened
        log.warning("models_unknown", extra={"code": error.code})
        end_if_device_failed(error)
        with suppress(DatabaseUnavailable):  # then no sweep can offer them again either
            outbox.postpone(model_loader().database, study_uids, again_at)
        raise self.retry(args=[study_uids], countdown=wait_s) from error
    ends = screen_each(screener, study_uids, again_at, thread_pool())
    interrupted = [study_uid for study_uid, end in zip(study_uids, ends, strict=True) if isinstance(end, Interrupted)]
    bugs = [end for end in ends if end is not None and not isinstance(end, Interrupted)]
    if bugs:
        log.error("studies_failed", extra={"count": len(bugs)})
    for failed in ends:
        end_if_device_failed(failed)
    if interrupted:
        raise self.retry(args=[interrupted], countdown=wait_s)
    if bugs:
        raise StudyFailed(", ".join(map(place_of, bugs)))  # without the error itself, which Celery would log in full


@app.task(name=beat.START_BATCH)
def start_batch() -> None:
    """Start the nightly batch on this machine; a second message finds it running."""
    beat.start(settings)


#: Set when the device of this process has failed.
process_end = ProcessEnd()


def end_if_device_failed(error: Exception | None) -> None:
    """Record the failure of a device, and end this process once its message is answered: see ProcessEnd."""
    if not isinstance(error, DeviceUnavailable | ProviderUnavailable) or process_end.is_near:
        return
    log.error("device_failed", extra={"code": error.code, "why": error.message})
    with suppress(DatabaseUnavailable):  # then the log alone has it
        device_failures.record(model_loader().database, model_loader().name, error, now())
    process_end.begin()


def countdown_s(retries: int) -> int:
    """Seconds that an interrupted message waits: twice as long each time, up to a limit."""
    return int(min(LONGEST_COUNTDOWN_S, 2**retries))


def screen_each(
    screener: StudyScreener, study_uids: Sequence[str], again_at: datetime, thread_pool: Executor | None
) -> list[Exception | None]:
    """The end of each study, in their order: None, a bug, or Interrupted. `thread_pool` screens several at a time.

    They are claimed in one transaction and recorded in another; each ends by itself. `again_at`: when the message comes
    again for those that are interrupted. Raises errors that end no study, such as an outdated database: running studies
    end first, and the claims of the others are given back.
    """
    message = Message(screener)
    taken = claims.claim_all(screener.database, study_uids, screener.settings, screener.clock())
    held = [claim for claim in taken if isinstance(claim, Claim)]
    try:
        for study_uid, claim in zip(study_uids, taken, strict=True):
            message.claimed(study_uid, claim)
        with prolonged(screener.database, held, screener.settings, screener.clock, message.pending.flush):
            try:
                for_each(message.judge, held, thread_pool)
            finally:
                message.pending.flush()
    finally:
        message.end_recorded()
        unended = [claim for claim in held if claim.study_uid not in message.ended]
        give_back(screener.database, unended, again_at, screener.settings)
    return [message.ends.get(study_uid) for study_uid in study_uids]


class Message:
    """The studies of a message while they are screened: their results that wait to be recorded, and their ends."""

    def __init__(self, screener: StudyScreener) -> None:
        self.screener = screener
        self.pending = PendingResults(screener.record)
        self.ends: dict[str, Exception | None] = {}
        self.ended = set[str]()  #: studies whose claims have ended

    def claimed(self, study_uid: str, claim: Claim | Exception | None) -> None:
        """Log a claim, or note why there is none."""
        if isinstance(claim, Exception):
            if isinstance(claim, Misconfigured):
                raise claim
            self._interrupted(study_uid, claim)
        elif claim is None:
            log.info("study_left_alone", extra={"study_uid": study_uid})  # the message came twice
        else:
            log.info("study_claimed", extra={"study_uid": study_uid})

    def judge(self, held: Claim) -> None:
        """Screen a study. A bug is recorded on it."""
        try:
            judgement = self.screener.judge(held)
        except Exception as error:  # noqa: BLE001 the task boundary: recorded on the study, and raised by the task
            self._end(held, error)
        else:
            self.pending.add(judgement)

    def end_recorded(self) -> None:
        """Note the ends of the studies whose results were to be recorded."""
        for judgement, end in self.pending.ends:
            held = judgement.result.held
            if isinstance(end, Exception):
                self._end(held, end)
                continue
            self.ended.add(held.study_uid)
            log.info("study_screened" if end else "study_overtaken", extra={"study_uid": held.study_uid})

    def _end(self, held: Claim, error: Exception) -> None:
        """Record a bug on its study; the claim of a study that was interrupted is given back later."""
        if isinstance(error, Interrupted):
            self._interrupted(held.study_uid, error)
            return
        screener = self.screener
        code = error.code if isinstance(error, ScreeningError) else str(Reason.UNEXPECTED_ERROR)
        is_plain = screener.settings.identifiers is IdentifierMode.PLAIN  # the text of an error may quote a header
        detail = "".join(traceback.format_exception(error, limit=20)) if is_plain else place_of(error)
        try:
            claims.fail(screener.database, held, code, detail, screener.clock(), screener.settings)
        except Interrupted as away:
            self._interrupted(held.study_uid, away)
        else:
            self.ended.add(held.study_uid)
            self.ends[held.study_uid] = error

    def _interrupted(self, study_uid: str, error: Exception) -> None:
        code, reason = getattr(error, "code", ""), getattr(error, "message", "")
        log.warning("study_interrupted", extra={"study_uid": study_uid, "code": code, "reason": reason})
        self.ends[study_uid] = error


@cache
def model_loader() -> ModelLoader:
    """The models of this process, opened at first use, because a CUDA session does not survive a fork."""
    connections = max(CONNECTIONS, 2 * settings.studies_at_once)  # one for each study, and one for its heartbeat
    is_silent_run = settings.silent is Silent.ON
    database = Database(settings.database_url, connections, settings.database_silence_s, is_silent_run)
    return ModelLoader(settings, database, open_store(settings), now)


@cache
def decoder() -> DecoderPool:
    """The decoders of this process."""
    return DecoderPool.of(settings)


@cache
def thread_pool() -> Executor | None:
    """The threads that screen a message's studies; None: the main thread, one study after the other.

    They live as long as the process, because the kernel ends a decoder child with the thread that started it.
    """
    at_once = settings.studies_at_once
    return None if at_once == 1 else ThreadPoolExecutor(at_once, thread_name_prefix="study")


def open_screener() -> StudyScreener:
    """A screener with the models in force. Raises as `ModelLoader.in_force`."""
    models = model_loader().in_force()
    return StudyScreener(
        settings, model_loader().database, model_loader().store, models.active, shadow=models.shadow, decoder=decoder()
    )


@worker_process_init.connect
def start_process(**_: Any) -> None:
    """Open the models before the first message; end when the parent process ends."""
    die_with_parent()
    cv2.setNumThreads(1)  # the processes run in parallel already
    decoder().start()
    try:
        _open_models()
    except (DeviceUnavailable, ProviderUnavailable) as error:  # the device served the trial: the next message tries
        log.error("device_failed", extra={"code": error.code, "why": error.message})
    Signs(model_loader().database, Process.WORKER).start()


@celeryd_init.connect
def refuse_to_serve_unproven(**_: Any) -> None:
    """Try settings, models, goldens and decoder in a trial process; the worker does not start if one fails."""
    Gate(settings).pass_through()
    trial = billiard.Process(target=_try_models)
    trial.start()
    trial.join()
    if trial.exitcode != 0:
        raise SystemExit(REFUSED)


def _try_models() -> None:
    try:
        decoder().start()  # its libraries load while the models are opened
        with suppress(Interrupted):  # messages wait until the database is back
            wait_until_made(model_loader().database, settings)
            check_database(model_loader().database, settings, now())
        _open_models()
        decoder().prove()
    except ScreeningError as error:
        sys.stderr.write(f"the worker does not start: {error}\n")
        raise SystemExit(REFUSED) from error


def _open_models() -> None:
    try:
        open_screener()
    except DeviceUnavailable:  # as a worker that starts without its GPU
        raise
    except Interrupted as error:  # without the ledger no study can be claimed: messages wait until it is back
        log.warning("models_unknown", extra={"code": error.code})
