"""An archive that does not read, does not answer or answers half holds the sender for a bounded time alone."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, evt
from sqlalchemy import text

from schema.vocabulary import DispatchState
from tests.ledger import Ledger
from tests.sent_results import STUDY, ArchiveOfTest, bring, screen, sender_of, to_archive
from worker.dicom import deadline_socket
from worker.dicom.send import destination, sender
from worker.dicom.send.destination import Answer, Archive

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

sqlite = pytest.mark.parametrize("kind", ["sqlite"])

#: What a wait for ever is told from, on a busy machine.
BOUND_S = 120.0

#: A time that is not meant to be what ends a wait.
FOR_EVER_S = 3600.0

Handler = Callable[[evt.Event], int | None]


@contextmanager
def archive_that(on: evt.EventType, does: Handler, *more: tuple[evt.EventType, Handler]) -> Iterator[Archive]:
    """An archive with a fault, and the way to it."""
    entity = AE("ARCHIVE")
    entity.add_supported_context(SecondaryCaptureImageStorage)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(on, does), *more])
    assert server is not None
    try:
        yield Archive("OURS", "ARCHIVE", "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()


def large_object() -> Dataset:
    """An object that fits into no buffer of a connection."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3.4"
    made.PixelData = b"\0" * (32 * 2**20)
    made["PixelData"].VR = "OB"
    return made


def answers_within(bound_s: float, archive: Archive, *objects: Dataset) -> list[Answer]:
    """The answers, asked for in a thread that may be left behind."""
    found: list[Answer] = []
    asking = threading.Thread(target=lambda: found.extend(archive.send(objects)), daemon=True)
    asking.start()
    asking.join(bound_s)
    assert not asking.is_alive(), "it waits for the archive"
    return found


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline_socket, "PDU_DEADLINE_S", 1.0)
    monkeypatch.setattr(destination, "ANSWER_S", 1.5)


@pytest.mark.parametrize("fault", ["does not answer", "answers half"])
def test_an_archive_with_a_fault_leaves_the_object_due(fault: str) -> None:
    over = threading.Event()

    def stands_still(event: evt.Event) -> int:
        if fault == "answers half":
            event.assoc.dul.socket.socket.sendall(b"\x04\0\0\0\x10\0half")
        over.wait(BOUND_S)
        return 0x0000

    with archive_that(evt.EVT_C_STORE, stands_still) as archive:
        (answer,) = answers_within(BOUND_S, archive, large_object())
        over.set()
    assert answer.state is DispatchState.DUE


#: Kinds of PDU (PS3.8 9.3.1).
DATA, RELEASE_REQUEST = 4, 5


@contextmanager
def archive_that_stands_still_at(kind: int) -> Iterator[Archive]:
    """An archive that reads nothing more after the head of such a PDU."""
    over = threading.Event()

    def stands_still(event: evt.Event) -> None:
        if event.pdu.pdu_type == kind:
            over.wait(BOUND_S * 2)

    with archive_that(evt.EVT_PDU_RECV, stands_still, (evt.EVT_C_STORE, lambda _: 0x0000)) as archive:
        try:
            yield archive
        finally:
            over.set()


@pytest.mark.parametrize(("pdu_s", "answer_s"), [(0.5, FOR_EVER_S), (FOR_EVER_S, 0.5), (0.5, 0.5)])
def test_an_archive_that_reads_nothing_leaves_the_object_due(
    monkeypatch: pytest.MonkeyPatch, pdu_s: float, answer_s: float
) -> None:
    monkeypatch.setattr(deadline_socket, "PDU_DEADLINE_S", pdu_s)
    monkeypatch.setattr(destination, "ANSWER_S", answer_s)
    monkeypatch.setattr(destination, "RELEASE_S", 0.5)
    with archive_that_stands_still_at(DATA) as archive:
        (answer,) = answers_within(BOUND_S, archive, large_object())
    assert answer.state is DispatchState.DUE


def test_an_archive_that_does_not_answer_the_release_keeps_the_sender_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deadline_socket, "PDU_DEADLINE_S", FOR_EVER_S)
    monkeypatch.setattr(destination, "ANSWER_S", FOR_EVER_S)
    monkeypatch.setattr(destination, "ASSOCIATE_S", FOR_EVER_S)
    monkeypatch.setattr(destination, "RELEASE_S", 0.5)
    with archive_that_stands_still_at(RELEASE_REQUEST) as archive:
        (answer,) = answers_within(BOUND_S, archive, large_object())
    assert answer.state is DispatchState.SENT


def test_an_archive_whose_name_has_no_address_leaves_the_object_due() -> None:
    (answer,) = answers_within(BOUND_S, Archive("OURS", "ARCHIVE", "no-such-archive.invalid", 104), large_object())
    assert (answer.state, answer.words) == (DispatchState.DUE, "the archive cannot be reached")


def rows(desk: Ledger) -> list[str]:
    with desk.database.reading() as connection:
        return [row.state for row in connection.execute(text("SELECT state FROM dispatch ORDER BY id"))]


@sqlite
def test_at_sigterm_an_answer_is_awaited_for_a_while_and_the_object_stays_due(
    desk: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destination, "ANSWER_S", 600.0)
    monkeypatch.setattr(deadline_socket, "PDU_DEADLINE_S", 600.0)
    monkeypatch.setattr(sender, "STOP_S", 0.2)
    asked, over, stop = threading.Event(), threading.Event(), threading.Event()

    class Silent(ArchiveOfTest):
        def _store(self, event: evt.Event) -> int:
            asked.set()
            over.wait(60)
            return super()._store(event)

    with Silent().listening() as archive:
        to_archive(desk, archive)
        bring(desk)
        screen(desk, 0.9)
        sending = threading.Thread(target=sender_of(desk).run, args=[stop], daemon=True)
        sending.start()
        assert asked.wait(60)
        stop.set()
        begun = time.monotonic()
        sending.join(BOUND_S)
        assert not sending.is_alive()
        assert time.monotonic() - begun < BOUND_S
        over.set()
    assert rows(desk) == ["due"]


@sqlite
def test_after_sigterm_no_further_object_is_sent(desk: Ledger) -> None:
    stop = threading.Event()

    class Stopping(ArchiveOfTest):
        def _store(self, event: evt.Event) -> int:
            stop.set()
            return super()._store(event)

    with Stopping().listening() as archive:
        to_archive(desk, archive)
        for study_uid in (STUDY, f"{STUDY}.8", f"{STUDY}.9"):
            bring(desk, study_uid=study_uid)
            screen(desk, 0.9, study_uid=study_uid)
        sender_of(desk).run(stop)
        assert sorted(rows(desk)) == ["due", "due", "sent"]
        desk.clock.forward(61)
        sender_of(desk).turn()
    assert rows(desk) == ["sent"] * 3
    assert len(archive.objects) == 3


@sqlite
def test_an_outbox_that_is_away_is_an_outage_and_not_an_end(desk: Ledger) -> None:
    (desk.settings.home).mkdir(parents=True, exist_ok=True)
    blocked = desk.settings.home / "blocked"
    blocked.write_text("a file where a folder should be")
    desk.settings = attrs.evolve(desk.settings, send=f"{blocked}/")
    bring(desk)
    screen(desk, 0.9)
    stop = threading.Event()
    sending = threading.Thread(target=sender_of(desk).run, args=[stop], daemon=True)
    sending.start()
    time.sleep(0.5)
    assert sending.is_alive()
    stop.set()
    sending.join(BOUND_S)
    assert rows(desk) == ["due"]
