"""When the turn of a result comes: by its attempts, and not by a clock that was set back meanwhile."""

import pytest

from tests.ledger import Ledger
from tests.results import STUDY, ArchiveOfTest, bring, screen, sender_of, to_archive


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
