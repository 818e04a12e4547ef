"""The Celery tasks `screen_studies` and `start_batch`, and the models of each worker process."""

import logging
import sys
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import Any

import billiard
import cv2
from celery import Task
from celery.signals import celeryd_init, worker_process_init

from schema.database import CONNECTIONS, Database
from schema.setting_values import Silent
from schema.vocabulary import Process
from worker.app import HARD_TIME_LIMIT_S, SCREEN_STUDIES, app, settings
from worker.decoding.pool import DecoderPool
from worker.errors import (
    DatabaseUnavailable,
    DeviceUnavailable,
    Interrupted,
    ProviderUnavailable,
    ScreeningError,
)
from worker.ledger.clocks import now
from worker.ledger.connect import wait_until_made
from worker.ledger.identifiers import check_database
from worker.ledger.operations import device_failures
from worker.ledger.operations.signs_of_life import Signs
from worker.ledger.screening import outbox
from worker.ledger.screening.message import screen_each
from worker.ledger.screening.outbox import LONGEST_COUNTDOWN_S
from worker.registry.loader import ModelLoader
from worker.runtime.error_place import place_of
from worker.runtime.parent_death import die_with_parent
from worker.runtime.process_end import ProcessEnd
from worker.runtime.readiness_gate import Gate
from worker.runtime.reconnect import StallCheck
from worker.schedule import beat
from worker.screen_study import DECODE_BUDGET_S, StudyScreener
from worker.settings import DECODER_DEADLINE_S
from worker.store import open_store

log = logging.getLogger(__name__)

app.steps["consumer"].add(StallCheck)

assert DECODE_BUDGET_S + 2 * DECODER_DEADLINE_S < HARD_TIME_LIMIT_S, "a study of hanging images would be killed"

#: Exit code of the trial process that opens the model before a worker serves.
REFUSED = 3


class StudyFailed(Exception):
    """Studies of this message met a bug. The row of a study that failed has the error, with its traceback where
    identifiers are kept plain; of one that could not be claimed the log alone has it."""


@app.task(name=SCREEN_STUDIES, bind=True, max_retries=None)
def screen_studies(self: Task, study_uids: list[str]) -> None:
    """Screen the studies of a message; each ends by itself. A message may come twice: finished studies are skipped.

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


@cache
def model_loader() -> ModelLoader:
    """The models of this process, opened at first use, because a CUDA session does not survive a fork."""
    connections = max(CONNECTIONS, 2 * settings.studies_at_once)  # a thread for each study, and one heartbeat
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
