"""Every file is registered in exactly one state, and its study shows the result."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from schema.vocabulary import Band, FileState, Priority, Reason, ReviewOutcome
from tests.ledger import STUDY, Ledger, image
from worker.ledger import decisions
from worker.ledger.intake import files
from worker.ledger.intake.arrivals import Incoming
from worker.ledger.screening import claims

OTHER = f"{STUDY}.2"
SECOND = f"{STUDY}.1.2"


def test_a_new_study_is_received(desk: Ledger) -> None:
    booked = desk.receive(path="/inbox/a.dcm", accession_number="A-7")
    assert (booked.state, booked.study_uid) == (FileState.ACCEPTED, STUDY)
    entry = desk.entry()
    assert (entry.state, entry.band, entry.reason) == ("received", Band.WAITING, Reason.AWAITING_RESULT)
    assert (entry.sources, entry.accession_number, entry.received_at) == (["/inbox/a.dcm"], "A-7", desk.clock())


def test_the_same_bytes_again_change_nothing(desk: Ledger) -> None:
    desk.receive()
    desk.screen(STUDY, 0.9)
    before = desk.study()
    desk.clock.forward(60)
    booked = desk.receive(path="/inbox/again.dcm")
    assert (booked.state, booked.message) == (FileState.DUPLICATE, "the same bytes were accepted before")
    assert desk.study() == before
    assert desk.count("instance") == 1
    assert desk.entry().sources == ["/inbox/one.dcm", "/inbox/again.dcm"]


def test_the_same_pixels_in_other_bytes_are_a_duplicate_and_noted(desk: Ledger) -> None:
    desk.receive()
    desk.screen()
    before = desk.study()
    booked = desk.receive(content="recoded", same_pixels_as="one")
    assert booked.state is FileState.DUPLICATE
    assert booked.message == "the same pixels, in other bytes, were accepted before"
    assert (desk.study(), desk.count("instance")) == (before, 1)


@pytest.mark.parametrize(("probabilities", "band"), [((0.1, 0.2), Band.ATTENTION), ((0.1, 0.8), Band.FLAGGED)])
def test_other_pixels_under_the_same_uid_are_a_conflict_that_people_see(
    desk: Ledger, probabilities: tuple[float, ...], band: Band
) -> None:
    desk.receive()
    booked = desk.receive(content="other")
    assert (booked.state, desk.count("instance")) == (FileState.CONFLICT, 2)
    assert (desk.entry().band, desk.entry().reason) == (Band.ATTENTION, Reason.OTHER_PIXELS)
    assert len(desk.screen(STUDY, *probabilities).received) == 2, "both are screened"
    entry = desk.entry()
    assert (entry.band, entry.conflict, entry.probability) == (band, Reason.OTHER_PIXELS, max(probabilities))
    assert desk.receive(content="other").state is FileState.DUPLICATE


def test_the_same_instance_uid_in_another_study_is_not_swallowed(desk: Ledger) -> None:
    desk.receive(STUDY, SECOND, "one")
    booked = desk.receive(OTHER, SECOND, "other")
    assert (booked.state, booked.study_uid) == (FileState.CONFLICT, OTHER)
    assert [entry.study_uid for entry in desk.worklist()] == [OTHER, STUDY]
    assert desk.study(STUDY).conflict is None


def test_the_same_pixels_in_another_study_are_no_conflict(desk: Ledger) -> None:
    """One PNG in two folders, each folder a study (raster_study=folder): same bytes, same derived UID, two studies."""
    desk.receive(STUDY, SECOND, "one")
    booked = desk.receive(OTHER, SECOND, "one", path="/inbox/b/one.png")
    assert booked.state is FileState.ACCEPTED
    assert desk.entry(OTHER).conflict is None


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"patient_id": "P-1"}, {"patient_id": "P-2"}, Reason.TWO_PATIENTS),
        ({"issuer_of_patient_id": "A"}, {"issuer_of_patient_id": "B"}, Reason.TWO_PATIENTS),
        ({"patient_id": None}, {"patient_id": "P-2"}, None),
        ({"patient_id": "P-1"}, {"patient_id": None}, None),
    ],
)
def test_two_patients_in_one_study_are_a_conflict(
    desk: Ledger, first: dict[str, Any], second: dict[str, Any], expected: Reason | None
) -> None:
    desk.receive(content="one", **first)
    booked = desk.receive(STUDY, SECOND, "two", **second)
    assert booked.state is (FileState.CONFLICT if expected else FileState.ACCEPTED)
    desk.screen()
    assert desk.entry().conflict == expected
    assert desk.entry().band == (Band.ATTENTION if expected else Band.NOT_FLAGGED)


def test_the_same_pixels_under_another_patient_are_a_conflict(desk: Ledger) -> None:
    """A sender corrects the patient ID and sends the image again: somebody must look which one is right."""
    desk.receive(patient_id="P-1")
    booked = desk.receive(content="corrected", same_pixels_as="one", patient_id="P-2")
    assert (booked.state, desk.entry().reason) == (FileState.CONFLICT, Reason.TWO_PATIENTS)


def test_a_second_image_reopens_a_screened_study(desk: Ledger) -> None:
    desk.receive()
    desk.receive(OTHER, content="other study")
    desk.screen(STUDY, 0.9)
    desk.screen(OTHER, 0.95)
    decisions.review(desk.database, STUDY, ReviewOutcome.PNEUMONIA, "Dr A", None, desk.clock())
    assert [entry.study_uid for entry in desk.worklist()] == [OTHER]
    desk.receive(STUDY, SECOND, "two")
    entry = desk.entry()
    assert (entry.state, entry.band, entry.reason) == ("received", Band.FLAGGED, Reason.NEW_IMAGES)
    assert (entry.verdict, entry.probability, entry.place) == ("flagged", 0.9, 2)
    assert desk.study().revision == 2
    assert len(desk.screen(STUDY, 0.2, 0.3).received) == 2
    assert (desk.entry().verdict, desk.entry().reason) == ("not_flagged", Reason.BELOW_THRESHOLD)
    assert desk.count("screening") == 3


def test_an_image_that_comes_during_screening_overtakes_the_claim(desk: Ledger) -> None:
    desk.receive()
    held = desk.claim()
    desk.receive(STUDY, SECOND, "two")
    assert desk.record(held, 0.9) is False
    assert (desk.count("screening"), desk.count("finding"), desk.count("model_version")) == (0, 0, 0)
    assert claims.fail(desk.database, held, "x", "y", desk.clock()) is False
    assert (desk.study().state, desk.study().revision) == ("received", 2)
    assert len(desk.screen(STUDY, 0.9).received) == 2


def test_an_image_that_comes_while_queued_joins(desk: Ledger) -> None:
    desk.receive()
    desk.offer()
    desk.receive(STUDY, SECOND, "two")
    assert (desk.study().state, desk.study().revision) == ("queued", 1)
    assert len(desk.claim().received) == 2


@pytest.mark.parametrize("state", ["received", "queued"])
def test_an_image_after_an_early_reading_brings_the_study_back(desk: Ledger, state: str) -> None:
    desk.receive()
    if state == "queued":
        desk.offer()
    decisions.review(desk.database, STUDY, ReviewOutcome.NO_PNEUMONIA, "Dr A", None, desk.clock())
    desk.receive(STUDY, SECOND, "two")
    assert desk.entry().state == state, "the reader has not seen the second image"


def test_a_broken_file_shows_on_its_study_until_the_whole_one_comes(desk: Ledger) -> None:
    booked = desk.receive(content="half", unreadable="truncated")
    assert (booked.state, booked.study_uid) == (FileState.QUARANTINED, STUDY)
    desk.screen()
    assert (desk.entry().verdict, desk.entry().verdict_reason) == ("unscreenable", "unreadable_image")
    assert desk.entry().verdict_detail == "truncated"
    again = desk.receive(content="half", unreadable="truncated", path="/inbox/half2.dcm")
    assert (again.state, desk.count("instance"), desk.study().state) == (FileState.QUARANTINED, 1, "screened")
    assert desk.receive(content="whole").state is FileState.ACCEPTED
    held = desk.screen(STUDY, 0.1)
    assert len(held.received) == 1, "the broken one is no longer looked at"
    assert desk.entry().verdict == "not_flagged"


def test_a_broken_copy_of_a_whole_image_spoils_nothing(desk: Ledger) -> None:
    desk.receive(content="whole")
    desk.screen(STUDY, 0.1)
    before = desk.study()
    booked = desk.receive(content="half", unreadable="truncated")
    assert (booked.state, booked.study_uid) == (FileState.QUARANTINED, STUDY)
    assert desk.study() == before


def test_a_stat_given_by_a_person_is_never_lowered(desk: Ledger) -> None:
    desk.receive()
    decisions.prioritise(desk.database, STUDY, Priority.STAT, "Dr A", desk.clock())
    desk.receive(STUDY, SECOND, "two", priority=Priority.ROUTINE)
    desk.receive()
    assert (desk.entry().priority, desk.entry().band) == ("stat", Band.STAT)


def test_a_stat_folder_raises_a_study_even_by_a_duplicate(desk: Ledger) -> None:
    desk.receive()
    desk.receive(priority=Priority.STAT)
    assert (desk.entry().priority, desk.entry().reason) == ("stat", "stat")


def test_files_that_wait_have_one_row_and_one_end(desk: Ledger) -> None:
    file = Incoming("/inbox/a.dcm", 10, 1)
    files.wait(desk.database, [file], desk.clock())
    files.wait(desk.database, [Incoming("/inbox/a.dcm", 20, 2)], desk.clock.forward(5))
    with desk.database.reading() as connection:
        rows = connection.execute(text("SELECT state, size_bytes FROM arrival")).all()
    assert rows == [("waiting", 20)]
    files.quarantine(desk.database, file, "not_an_image", "a letter", None, desk.clock(), in_store=False)
    assert desk.count("arrival") == 1


def test_waiting_files_that_are_gone_are_booked_as_vanished(desk: Ledger) -> None:
    for name in ("/inbox/gone", "/inbox/there", "/inbox_2/gone", "/in_ox/gone"):
        files.wait(desk.database, [Incoming(name, 1, 1)], desk.clock())
    assert files.record_vanished(desk.database, lambda path: path == "/inbox/there", under="/inbox/") == ["/inbox/gone"]
    assert files.record_vanished(desk.database, lambda _: False, under="/in_ox/") == ["/in_ox/gone"]


def test_a_study_settles_after_quiet_and_at_last_after_the_longest_wait(desk: Ledger) -> None:
    settings, started = desk.settings, desk.clock()
    desk.receive(is_settled=False)
    desk.clock.forward(settings.study_quiet_s - 1)
    assert desk.offer() == []
    number = 1
    while desk.clock() - started < timedelta(seconds=settings.study_longest_wait_s):
        number += 1
        desk.receive(STUDY, f"{STUDY}.1.{number}", f"image {number}", is_settled=False)
        assert desk.offer() == []
        desk.clock.forward(settings.study_quiet_s - 1)
    assert desk.offer() == [STUDY]


def test_two_writers_of_one_new_study_both_succeed(desk: Ledger) -> None:
    together, states = threading.Barrier(8), []

    def write(number: int) -> None:
        together.wait()
        states.append(desk.receive(STUDY, f"{STUDY}.1.{number}", f"image {number}").state)

    threads = [threading.Thread(target=write, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == [FileState.ACCEPTED] * 8
    assert (desk.count("study"), desk.count("instance"), desk.count("series")) == (1, 8, 1)


@pytest.mark.parametrize(
    "word", ["'; DROP TABLE study; --", "[bold red]x[/]", "../../etc/passwd", "%s%n{0}", "日本 ﷽ \U0001f480", "9" * 64]
)
def test_hostile_words_pass_through_unharmed(desk: Ledger, word: str) -> None:
    names = ("patient_id", "issuer_of_patient_id", "accession_number", "modality", "body_part", "view", "manufacturer")
    more = ("station_name", "device_serial_number", "photometric_interpretation", "transfer_syntax_uid")
    elements: dict[str, Any] = dict.fromkeys((*names, *more), word)
    desk.receive(word, word, "one", path=f"/inbox/{word}", series_uid=word, **elements)
    desk.screen(word, headers=[image(word, word)])
    entry = desk.entry(word)
    assert (entry.study_uid, entry.patient_id, entry.accession_number) == (word, word, word)
    assert entry.sources == [f"/inbox/{word}"]
    decisions.review(desk.database, word, ReviewOutcome.NO_PNEUMONIA, word, word, desk.clock())
    assert desk.worklist() == []
