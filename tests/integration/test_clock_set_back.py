"""Written before a clock was set back: no result waits for it, and no session, hold or sign of life outlives it."""

import pytest

from schema.vocabulary import Process
from tests.ledger import Ledger
from tests.reading_room import running
from tests.sent_results import STUDY, ArchiveOfTest, bring, screen, sender_of, to_archive
from worker.ledger.operations import signs_of_life


@pytest.mark.parametrize("attempts", [0, 1, 3])
def test_a_result_of_a_clock_that_was_set_back_does_not_wait_for_it(desk: Ledger, attempts: int) -> None:
    with ArchiveOfTest().listening() as archive:
        to_archive(desk, archive)
        bring(desk)
        desk.clock.forward(hours=1)
        screen(desk, 0.9)
        archive.status = 0xA700
        for _ in range(attempts):
            assert sender_of(desk).turn() == 1
            desk.clock.forward(hours=1)
        archive.status = 0x0000
        desk.clock.forward(hours=-1 - attempts)
        assert sender_of(desk).turn() == 1
    assert [ds.StudyInstanceUID for ds in archive.objects] == [STUDY]


def test_a_result_whose_wait_is_not_over_waits_although_the_clock_differs_a_little(desk: Ledger) -> None:
    with ArchiveOfTest().listening() as archive:
        to_archive(desk, archive)
        bring(desk)
        screen(desk, 0.9)
        archive.status = 0xA700
        for wait_s in (60, 120):
            assert sender_of(desk).turn() == 1
            desk.clock.forward(-200)
            assert sender_of(desk).turn() == 0
            desk.clock.forward(200 + wait_s)
        assert sender_of(desk).turn() == 1


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_session_that_was_used_by_a_clock_that_was_set_back_is_over(desk: Ledger) -> None:
    with running(desk) as page:
        visitor = page.visitor("ann")
        desk.clock.forward(-200)  # the clock of another machine
        assert visitor.get("/").status == 200
        desk.clock.forward(hours=-1)
        assert visitor.get("/").header("Location") == "/login?next=/"
        desk.clock.forward(hours=1)
        assert visitor.get("/").status == 200


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_hold_of_a_clock_that_was_set_back_is_over(desk: Ledger) -> None:
    desk.receive(STUDY)
    desk.screen(STUDY, 0.9)
    with running(desk) as page:
        page.visitor("ann").get(f"/study/{STUDY}")
        desk.clock.forward(-200)  # the clock of another machine
        ben = page.visitor("ben")
        assert "ann reads it" in ben.get("/").text
        assert ben.get("/next").header("Location") == "/"
        desk.clock.forward(hours=-1)
        ben = page.visitor("ben")
        known = ben.get("/rows").header("ETag")
        assert "ann reads it" not in ben.get("/").text
        assert ben.get("/next").header("Location") == f"/study/{STUDY}"
        assert 'id="verdict"' in ben.get(f"/study/{STUDY}").text
        assert "ben reads it" in ben.get("/rows", If_None_Match=known).text


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_process_whose_sign_of_life_is_of_a_clock_that_was_set_back_is_missed(desk: Ledger) -> None:
    for process in Process:
        signs_of_life.record(desk.database, process, "here", desk.clock())
    with running(desk) as page:
        visitor = page.visitor("ann")
        assert "seen alive" not in visitor.get("/").text
        desk.clock.forward(-200)
        assert "seen alive" not in visitor.get("/").text
        desk.clock.forward(hours=-1)
        visitor = page.visitor("ann")
        assert "seen alive" in visitor.get("/").text
