"""What a shadow said beside the active model, and what readers said where the two differ."""

from dataclasses import replace

from sqlalchemy import text

from schema.vocabulary import Reason, ReviewOutcome, Verdict
from tests.ledger import STUDY, Ledger
from worker.ledger import decisions
from worker.ledger.screening import verdicts
from worker.ledger.screening.results import Result
from worker.screening.rules import StudyVerdict


def pneumonia_only_shadow_flagged(desk: Ledger) -> int:
    with desk.database.reading() as connection:
        return int(connection.execute(text("SELECT pneumonia_only_shadow_flagged FROM shadowing")).scalar_one())


def flagged_by_the_shadow_alone(desk: Ledger, study_uid: str) -> None:
    desk.receive(study_uid, content=study_uid)
    held = replace(desk.screen(study_uid, 0.1), received=())
    flagged = StudyVerdict(Verdict.FLAGGED, Reason.AT_OR_ABOVE_THRESHOLD, "", None, 0.9)
    shadow = Result(held, flagged, [], [], replace(desk.model, digest="b" * 64), 0.1)
    assert verdicts.record_shadows(desk.database, [shadow], desk.model.digest, desk.clock()) == [True]


def test_a_withdrawn_review_is_no_word_of_a_reader(desk: Ledger) -> None:
    for study_uid in (f"{STUDY}.1", f"{STUDY}.2"):
        flagged_by_the_shadow_alone(desk, study_uid)
        decisions.review(desk.database, study_uid, ReviewOutcome.PNEUMONIA, "Dr A", None, desk.clock())
    assert pneumonia_only_shadow_flagged(desk) == 2
    decisions.withdraw(desk.database, f"{STUDY}.1", "Dr A", "the wrong study", desk.clock())
    assert pneumonia_only_shadow_flagged(desk) == 1
    decisions.review(desk.database, f"{STUDY}.1", ReviewOutcome.NO_PNEUMONIA, "Dr A", None, desk.clock())
    assert pneumonia_only_shadow_flagged(desk) == 1
