"""The account of those outside finds what is lost, doubled or not answered."""

from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy

import pytest

from schema.vocabulary import ReviewOutcome
from tests.chaos.archive import Archive
from tests.chaos.crew import Entry
from tests.chaos.modality import Modality
from tests.chaos.outside import Outside, take
from tests.chaos.reader import NAME, Reader
from tests.ledger import Ledger
from tests.sent_results import STUDY, bring, screen, sender_of, to_archive
from worker.ledger import decisions

pytestmark = pytest.mark.parametrize("kind", ["sqlite"])


class Peers:
    """Modality, archive and reader, none of which has done anything yet; and an account of them."""

    def __init__(self, desk: Ledger, archive: Archive, modality: Modality) -> None:
        self.desk, self.archive, self.modality, self.reader = desk, archive, modality, Reader(1, 1)

    def account(self, *events: str) -> Outside:
        entries = [Entry(0.0, "page", event, {}) for event in events]
        return take(self.desk.database, entries, self.modality, self.archive, self.reader)

    def review(self, comment: str) -> None:
        decisions.review(self.desk.database, STUDY, ReviewOutcome.PNEUMONIA, NAME, comment, self.desk.clock())


@pytest.fixture
def peers(desk: Ledger) -> Iterator[Peers]:
    """One object was answered, its report is in the archive, and its verdict was confirmed."""
    archive = Archive()
    archive.start()
    to_archive(desk, archive)
    with closing(Modality(archive.port)) as modality:
        found = Peers(desk, archive, modality)
        modality.answered.add(bring(desk))
        screen(desk, 0.9)
        assert sender_of(desk).turn() == 1
        archive.stop()
        found.review("verdict 1")
        found.reader.confirmed.append("verdict 1")
        yield found


def test_what_was_kept_is_whole(peers: Peers) -> None:
    account = peers.account("request", "object_booked")
    assert account.is_whole
    assert (account.objects_answered, account.reports_due, account.verdicts_confirmed) == (1, 1, 1)


def test_an_object_that_the_ledger_lacks_is_lost(peers: Peers) -> None:
    peers.modality.answered.add("1.2.3")
    account = peers.account()
    assert (account.objects_lost, account.is_whole) == (1, False)


def test_a_report_that_the_archive_lacks_is_lost_and_another_object_for_it_doubled(peers: Peers) -> None:
    (report,) = peers.archive.objects
    peers.archive.objects.append(report)
    assert (peers.account().reports_stored, peers.account().is_whole) == (2, True)  # the same object, sent twice
    other = deepcopy(report)
    other.SOPInstanceUID = "1.2.3"
    peers.archive.objects.append(other)
    assert (peers.account().reports_doubled, peers.account().is_whole) == (1, False)
    peers.archive.objects.clear()
    assert (peers.account().reports_lost, peers.account().is_whole) == (1, False)


def test_a_report_of_every_revision_is_due(peers: Peers) -> None:
    decisions.requeue(peers.desk.database, STUDY, peers.desk.settings, peers.desk.clock(), "me")
    screen(peers.desk, 0.2)
    account = peers.account()
    assert (account.reports_due, account.reports_lost, account.reports_waiting) == (2, 1, 1)
    assert not account.is_whole


def test_a_verdict_that_is_not_there_is_lost_and_one_that_is_there_twice_doubled(peers: Peers) -> None:
    peers.reader.confirmed.append("verdict 2")
    assert (peers.account().verdicts_lost, peers.account().is_whole) == (1, False)
    peers.review("verdict 2")
    assert peers.account().is_whole
    peers.review("verdict 2")
    assert (peers.account().verdicts_doubled, peers.account().is_whole) == (1, False)


def test_a_bug_in_a_log_and_an_answer_500_are_faults(peers: Peers) -> None:
    assert peers.account("request_failed").bugs == {"request_failed": 1}
    assert not peers.account("request_failed").is_whole
    peers.reader.faults.append("GET /")
    assert not peers.account().is_whole
