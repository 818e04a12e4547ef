"""The studies of one message: claimed together, screened one by one, recorded together; each ends by itself.

Knows no pixels: whoever screens a study is given.
"""

import logging
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from datetime import datetime
from functools import partial
from typing import Generic, Protocol, TypeVar

from schema.database import Database
from schema.vocabulary import IdentifierMode, Reason
from worker.errors import DatabaseUnavailable, Interrupted, Misconfigured, ScreeningError
from worker.ledger.screening import claims
from worker.ledger.screening.leases import give_back, renewing
from worker.ledger.screening.pending_results import PendingResults
from worker.ledger.screening.results import Claim, Result
from worker.ledger.transactions import together
from worker.runtime.boundary import result_or_error
from worker.runtime.error_place import place_of
from worker.runtime.thread_pool import for_each
from worker.settings import Settings

log = logging.getLogger(__name__)


class Judged(Protocol):
    """What was found of a claimed study."""

    @property
    def result(self) -> Result:
        """Its verdict, with the claim."""


J = TypeVar("J", bound=Judged)


class Screener(Protocol[J]):
    """Whoever screens studies: `worker.screen_study.StudyScreener`."""

    @property
    def settings(self) -> Settings:
        """Those of the worker."""

    @property
    def database(self) -> Database:
        """The one that the claims are rows of."""

    @property
    def clock(self) -> Callable[[], datetime]:
        """The time now."""

    def lease_now(self) -> datetime:
        """The time now on the clock of leases, which is one for all machines."""

    def judge(self, claim: Claim) -> J:
        """Screen a claimed study."""

    def record(self, judgements: Sequence[J]) -> list[bool | Exception]:
        """Record studies together: whether each was recorded, or its own error."""


def screen_each(
    screener: Screener[J], study_uids: Sequence[str], again_at: datetime, thread_pool: Executor | None
) -> list[Exception | None]:
    """The end of each study, in their order: None, a bug, or Interrupted. `thread_pool` screens several at a time.

    They are claimed in one transaction and recorded in another; each ends by itself. `again_at`: when the message comes
    again for those that are interrupted. Raises errors that end no study, such as an outdated database: running studies
    end first, and the claims of the others are given back.
    """
    taken = claims.claim_all(screener.database, study_uids, screener.settings, screener.lease_now)
    held = [claim for claim in taken if isinstance(claim, Claim)]
    message = Message(screener, held)
    try:
        for study_uid, claim in zip(study_uids, taken, strict=True):
            message.claimed(study_uid, claim)
        with renewing(screener.database, held, screener.settings, screener.lease_now, message.at_heartbeat):
            try:
                for_each(message.judge, held, thread_pool)
            finally:
                message.pending.flush()
    finally:
        try:
            message.end_recorded()
        finally:
            unended = [claim for claim in held if claim.study_uid not in message.ended]
            give_back(screener.database, unended, again_at, screener.settings)
    return [message.ends.get(study_uid) for study_uid in study_uids]


class Message(Generic[J]):
    """The studies of a message while they are screened: their results that wait to be recorded, and their ends."""

    def __init__(self, screener: Screener[J], held: Sequence[Claim]) -> None:
        self.screener = screener
        self.waiting = {claim.study_uid: claim for claim in held}  #: claims that no thread has begun
        self.pending = PendingResults(partial(together, screener.record))
        self.ends: dict[str, Exception | None] = {}
        self.ended = set[str]()  #: studies whose claims have ended

    def claimed(self, study_uid: str, claim: Claim | Exception | None) -> None:
        """Log a claim, or note why there is none."""
        if isinstance(claim, Exception):
            if isinstance(claim, Misconfigured):
                raise claim
            if isinstance(claim, Interrupted):
                self._interrupted(study_uid, claim)
            else:  # a bug, and no claim to record it with
                log.error("study_not_claimed", extra={"study_uid": study_uid, "kind": place_of(claim)})
                self.ends[study_uid] = claim
        elif claim is None:
            log.info("study_left_alone", extra={"study_uid": study_uid})  # the message came twice
        else:
            log.info("study_claimed", extra={"study_uid": study_uid})

    def judge(self, claim: Claim) -> None:
        """Screen a study, unless its claim was given back. A bug is recorded on it."""
        if self.waiting.pop(claim.study_uid, None) is None:
            return
        judgement = result_or_error(lambda: self.screener.judge(claim))
        if isinstance(judgement, Exception):
            self._end(claim, judgement)
        else:
            self.pending.add(judgement)

    def at_heartbeat(self) -> None:
        """Record what waits for a slow study, and give back studies that wait for it and whose priority has risen.

        If a thread begins one meanwhile, its result is dropped as overtaken.
        """
        self.pending.flush()
        waiting = list(self.waiting.values())
        try:
            raised = claims.with_raised_priority(self.screener.database, waiting) if waiting else []
            if raised:
                claims.give_back_all(self.screener.database, raised, None)
        except DatabaseUnavailable:
            return  # the next heartbeat tries again
        for claim in raised:
            self.waiting.pop(claim.study_uid, None)
            log.info("study_given_back", extra={"study_uid": claim.study_uid, "reason": "its priority has risen"})

    def end_recorded(self) -> None:
        """Note the ends of the studies whose results were to be recorded. Raises Misconfigured, which ends no study."""
        for judgement, end in self.pending.ends:
            claim = judgement.result.claim
            if isinstance(end, Misconfigured):
                raise end
            if isinstance(end, Exception):
                self._end(claim, end)
                continue
            self.ended.add(claim.study_uid)
            log.info("study_screened" if end else "study_overtaken", extra={"study_uid": claim.study_uid})

    def _end(self, claim: Claim, error: Exception) -> None:
        """Record a bug on its study; the claim of a study that was interrupted is given back later."""
        if isinstance(error, Interrupted):
            self._interrupted(claim.study_uid, error)
            return
        screener = self.screener
        code = error.code if isinstance(error, ScreeningError) else str(Reason.UNEXPECTED_ERROR)
        is_plain = screener.settings.identifiers is IdentifierMode.PLAIN  # the text of an error may quote a header
        detail = "".join(traceback.format_exception(error, limit=20)) if is_plain else place_of(error)
        try:
            claims.fail(screener.database, claim, code, detail, screener.clock(), screener.settings)
        except Interrupted as away:
            self._interrupted(claim.study_uid, away)
        else:
            self.ended.add(claim.study_uid)
            self.ends[claim.study_uid] = error

    def _interrupted(self, study_uid: str, error: Interrupted) -> None:
        log.warning("study_interrupted", extra={"study_uid": study_uid, "code": error.code, "reason": error.message})
        self.ends[study_uid] = error
