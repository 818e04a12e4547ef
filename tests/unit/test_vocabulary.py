"""The words are stable, and the table of steps covers every state."""

import pytest

from schema.vocabulary import TRANSITIONS, Band, FileState, Priority, Reason, ReviewOutcome, StudyState, Verdict

#: Stored in databases and quoted by other programs: changing one breaks them.
STORED = {
    FileState: "waiting accepted duplicate conflict quarantined vanished",
    StudyState: "received queued screening screened failed",
    Verdict: "flagged not_flagged unscreenable ineligible",
    Priority: "stat routine nightly",
    ReviewOutcome: "pneumonia no_pneumonia uncertain not_assessable",
}


@pytest.mark.parametrize(("words", "stored"), STORED.items())
def test_stored_words_are_stable(words: type[FileState], stored: str) -> None:
    assert [word.value for word in words] == stored.split()


def test_every_word_fits_its_column() -> None:
    for words in (*STORED, Reason):
        for word in words:
            assert len(word.value) <= 32


def test_bands_are_numbered_from_the_top() -> None:
    assert [(band.value, band.name) for band in Band] == [
        (1, "STAT"), (2, "OVERDUE"), (3, "FLAGGED"), (4, "ATTENTION"), (5, "WAITING"), (6, "NOT_FLAGGED"),
        (7, "INELIGIBLE"),
    ]  # fmt: skip


def test_the_steps_cover_every_state_and_none_is_a_dead_end() -> None:
    assert set(TRANSITIONS) == set(StudyState)
    for state, following in TRANSITIONS.items():
        assert following, f"nothing leads out of {state}"
        assert state not in following
    reached = {StudyState.RECEIVED}
    for _ in StudyState:
        reached |= {following for state in reached for following in TRANSITIONS[state]}
    assert reached == set(StudyState), "a state that no study can come to"


def test_a_verdict_is_only_given_by_who_screens() -> None:
    leading = {state for state, following in TRANSITIONS.items() if StudyState.SCREENED in following}
    assert leading == {StudyState.SCREENING}
