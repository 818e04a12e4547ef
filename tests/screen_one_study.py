"""One study's screening in a test, by the functions that screen the studies of a message."""

from datetime import datetime

from worker.errors import Interrupted
from worker.ledger.screening.message import screen_each
from worker.ledger.screening.results import Claim
from worker.screen_study import StudyScreener


def screen(screener: StudyScreener, held: Claim) -> bool:
    """Screen a claimed study and record its verdict; False when it was overtaken. Raises what ended it."""
    (end,) = screener.record([screener.judge(held)])
    if isinstance(end, Exception):
        raise end
    return end


def screen_study(screener: StudyScreener, study_uid: str, again_at: datetime) -> Exception | None:
    """Claim a study and bring it to its end: None, or the bug that is recorded on it. Raises Interrupted."""
    (end,) = screen_each(screener, [study_uid], again_at, None)
    if isinstance(end, Interrupted):
        raise end
    return end
