"""A PACS sends: each object that is answered with success is kept, and everything else is refused with its status."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from pydicom import dcmread
from sqlalchemy import text

from schema.database import Database
from schema.vocabulary import FileState, Priority
from tests.ledger import Ledger
from tests.object_store import ObjectStore
from tests.phantoms import (
    DX_FOR_PRESENTATION,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    JPEG_BASELINE,
    JPEG_LS,
    LOSSLESS,
    LOSSY_ENCODERS,
    dicom_file,
    picture,
)
from tests.receiver import CALLER, STAT, associate, data_set_of, radiograph, receiving, send, send_bytes, until
from worker.decoding.decoder import Decoder
from worker.dicom.receive.spool import SpooledObject
from worker.dicom.receive.tallies import metrics_served
from worker.monitoring.reconciliation import reconcile
from worker.store import OBJECTS

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CT = "1.2.840.10008.5.1.4.1.1.2"

sqlite = pytest.mark.parametrize("kind", ["sqlite"])


def arrivals(desk: Ledger) -> list[Any]:
    with desk.database.reading() as connection:
        return list(connection.execute(text("SELECT * FROM arrival ORDER BY id")))


def states(desk: Ledger) -> list[str]:
    account = reconcile(desk.database, desk.store)
    assert account.holds, account
    return [row.state for row in arrivals(desk)]


def spooled(desk: Ledger) -> list[Path]:
    assert desk.settings.store_folder is not None
    return list((desk.settings.store_folder / "spool").rglob("*.partial"))


def test_an_object_that_was_answered_is_kept_and_names_its_sender(desk: Ledger) -> None:
    ds = radiograph()
    with receiving(desk) as receiver:
        assert send(receiver, ds) == [0x0000]
        (arrival,) = arrivals(desk)
        assert (arrival.state, arrival.in_store) == (FileState.ACCEPTED, True)
        assert arrival.path == f"dicom:{CALLER}/{ds.SOPInstanceUID}"
        kept = desk.store.get(OBJECTS, arrival.digest)
        assert hashlib.sha256(kept).hexdigest() == arrival.digest
        assert spooled(desk) == []
    assert desk.study(ds.StudyInstanceUID).priority == Priority.ROUTINE
    assert desk.offer() == []  # the study settles after its own quiet time
    desk.clock.forward(hours=24 * 365)
    assert desk.offer() == [ds.StudyInstanceUID]


@sqlite
@pytest.mark.parametrize("syntax", sorted({*LOSSLESS, *LOSSY_ENCODERS}))
def test_every_transfer_syntax_that_imaging_reads_is_received(desk: Ledger, syntax: str) -> None:
    is_baseline = syntax == JPEG_BASELINE
    elements: dict[str, Any] = {} if is_baseline else {"BitsStored": 12}
    file = dicom_file(picture(bits=8 if is_baseline else 12), syntax, **elements)
    with receiving(desk) as receiver:
        assert send(receiver, dcmread(BytesIO(file))) == [0x0000]
    assert states(desk) == ["accepted"]


def test_the_second_title_makes_a_study_stat(desk: Ledger) -> None:
    ds = radiograph()
    with receiving(desk) as receiver:
        assert send(receiver, ds, called=STAT) == [0x0000]
    assert desk.study(ds.StudyInstanceUID).priority == Priority.STAT


def test_the_same_object_again_is_a_duplicate_whoever_sends_it(desk: Ledger) -> None:
    with receiving(desk, receive_from=f"{CALLER}, OTHER") as receiver:
        assert send(receiver, radiograph(), radiograph()) == [0x0000, 0x0000]
        assert send(receiver, radiograph(), calling="OTHER") == [0x0000]
    assert states(desk) == ["accepted", "duplicate", "duplicate"]


def test_one_object_from_several_senders_at_once_is_kept_once(desk: Ledger) -> None:
    callers = [CALLER, "OTHER"] * 4
    with receiving(desk, receive_from=f"{CALLER}, OTHER") as receiver, ThreadPoolExecutor(len(callers)) as senders:
        answers = list(senders.map(lambda caller: send(receiver, radiograph(), calling=caller), callers))
    assert answers == [[0x0000]] * 8
    assert sorted(states(desk)) == ["accepted"] + ["duplicate"] * 7
    assert desk.count("instance") == 1


def test_other_pixels_under_one_uid_are_answered_at_once_and_end_as_a_conflict(desk: Ledger) -> None:
    other = radiograph()
    other.PixelData = bytes(reversed(other.PixelData))
    same = radiograph(PatientName="spelled^otherwise")
    with receiving(desk) as receiver:
        assert send(receiver, radiograph(), other, same) == [0x0000] * 3
        until(lambda: "waiting" not in states(desk))
    assert sorted(states(desk)) == ["accepted", "conflict", "duplicate"]


def test_a_comparison_that_a_killed_receiver_left_is_made_after_the_next_start(desk: Ledger) -> None:
    other = radiograph()
    other.PixelData = bytes(reversed(other.PixelData))
    with receiving(desk) as receiver:
        receiver.reception.stop()  # as if it were killed before it compares
        assert send(receiver, radiograph(), other) == [0x0000] * 2
        assert states(desk) == ["accepted", "waiting"]
    with receiving(desk):
        until(lambda: "waiting" not in states(desk))
    assert states(desk) == ["accepted", "conflict"]


@sqlite
def test_a_comparison_that_fails_for_an_unknown_reason_holds_up_no_other(desk: Ledger) -> None:
    class Failing(Decoder):
        failures = 1

        def stored_digest(self, content: bytes, limits: Any) -> str:
            if self.failures:
                self.failures -= 1
                raise ZeroDivisionError
            return super().stored_digest(content, limits)

    others = [radiograph(number) for number in (1, 2)]
    for other in others:
        other.PixelData = bytes(reversed(other.PixelData))
    with receiving(desk) as receiver:
        receiver.reception.intake = replace(receiver.reception.intake, decoder=Failing())
        assert send(receiver, radiograph(1), radiograph(2), *others) == [0x0000] * 4
        until(lambda: states(desk).count("conflict") == 1)
        assert states(desk) == ["accepted", "accepted", "waiting", "conflict"]
    with receiving(desk):
        until(lambda: "waiting" not in states(desk))


@sqlite
def test_what_cannot_be_read_is_kept_in_quarantine(desk: Ledger) -> None:
    nameless = radiograph(2)
    del nameless.StudyInstanceUID
    with receiving(desk) as receiver:
        association = associate(receiver)
        half = data_set_of(radiograph())[:-1000]
        assert send_bytes(association, half, str(radiograph().SOPInstanceUID)) == 0x0000
        association.release()
        assert send(receiver, nameless) == [0x0000]
    assert states(desk) == ["quarantined", "quarantined"]
    assert desk.study(radiograph().StudyInstanceUID).revision == 1  # its study shows the broken image
    assert [row.in_store for row in arrivals(desk)] == [True, True]


@sqlite
def test_a_data_set_that_is_not_the_one_of_the_command_is_refused(desk: Ledger) -> None:
    with receiving(desk) as receiver:
        association = associate(receiver)
        assert send_bytes(association, data_set_of(radiograph()), "1.2.3.4") == 0xA900
        other_class = radiograph(SOPClassUID="1.2.840.10008.5.1.4.1.1.1")
        assert send_bytes(association, data_set_of(other_class), str(other_class.SOPInstanceUID)) == 0xA900
        association.release()
    assert states(desk) == []
    assert spooled(desk) == []


@sqlite
def test_other_classes_and_syntaxes_are_refused_when_the_association_is_negotiated(desk: Ledger) -> None:
    with receiving(desk) as receiver:
        association = associate(receiver, sop_class=CT)
        assert [str(context.abstract_syntax) for context in association.rejected_contexts] == [CT]
        association.release()
        association = associate(receiver, syntaxes=["1.2.840.10008.1.2.4.100"])  # MPEG2
        assert [str(context.abstract_syntax) for context in association.rejected_contexts] == [DX_FOR_PRESENTATION]
        association.release()


@sqlite
def test_an_echo_is_answered(desk: Ledger) -> None:
    with receiving(desk) as receiver:
        association = associate(receiver)
        assert association.send_c_echo().Status == 0x0000
        association.release()


@sqlite
def test_below_the_least_free_space_objects_are_refused_and_arrive_later(desk: Ledger) -> None:
    with receiving(desk, min_free_mib=2**40) as receiver:
        assert send(receiver, radiograph()) == [0xA700]
    assert (arrivals(desk), spooled(desk)) == ([], [])
    with receiving(desk) as receiver:
        assert send(receiver, radiograph()) == [0x0000]
    assert states(desk) == ["accepted"]


@sqlite
def test_an_object_beyond_the_limit_is_refused(desk: Ledger) -> None:
    with receiving(desk) as receiver:
        receiver.spool.limit_bytes = 4096
        assert send(receiver, radiograph()) == [0xC000]
        assert (arrivals(desk), spooled(desk)) == ([], [])


@sqlite
def test_our_own_pictures_are_counted_and_never_an_arrival(desk: Ledger) -> None:
    ours: dict[str, Any] = {"Manufacturer": "chest-screening", "SOPInstanceUID": "2.25.12345"}
    with receiving(desk) as receiver:
        assert send(receiver, radiograph(SOPClassUID=SECONDARY_CAPTURE, **ours)) == [0x0000]
        assert receiver.tallies.registry.get_sample_value("screening_receiver_own_results_total", {"peer": CALLER}) == 1
        assert arrivals(desk) == []
        assert send(receiver, radiograph(**ours)) == [0x0000]  # a radiograph is answered because it is kept
    assert states(desk) == ["accepted"]


@sqlite
def test_a_peer_that_pads_or_compresses_differently_is_one_of_two_files(desk: Ledger) -> None:
    with receiving(desk) as receiver:
        for syntax in (EXPLICIT_LITTLE, IMPLICIT_LITTLE, JPEG_LS):
            assert send(receiver, radiograph(syntax=syntax)) == [0x0000]
        until(lambda: "waiting" not in states(desk))
    assert states(desk) == ["accepted", "duplicate", "duplicate"]


@sqlite
def test_without_its_database_objects_are_refused_and_arrive_later(desk: Ledger) -> None:
    away = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing?connect_timeout=2")
    with receiving(desk) as receiver:
        reception = receiver.reception
        there = reception.intake
        reception.intake = replace(there, database=away)
        assert send(receiver, radiograph(), radiograph(2)) == [0xA700, 0xA700]
        assert spooled(desk) == []
        reception.intake = there
        until(lambda: reception.refusal() is None)
        assert send(receiver, radiograph(), radiograph(2)) == [0x0000, 0x0000]
    away.close()
    assert states(desk) == ["accepted", "accepted"]


@sqlite
def test_a_database_that_goes_while_an_object_is_received_keeps_nothing_half(desk: Ledger) -> None:
    away = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing?connect_timeout=2")
    with receiving(desk) as receiver:
        reception = receiver.reception
        there = reception.intake
        assert reception.refusal() is None  # asked a moment ago, and believed for a second
        reception.intake = replace(there, database=away)
        assert send(receiver, radiograph()) == [0xA700]
        reception.intake = there
        until(lambda: reception.refusal() is None)
        assert send(receiver, radiograph()) == [0x0000]
    away.close()
    assert (states(desk), spooled(desk)) == (["accepted"], [])


@sqlite
def test_a_full_spool_is_answered_and_not_an_end_without_a_word(desk: Ledger) -> None:
    with receiving(desk) as receiver:
        begin = receiver.spool.begin
        nowhere = receiver.spool.folder / "gone"

        def begin_nowhere(head: bytes) -> SpooledObject:
            spooled_object = begin(head)
            spooled_object.draft.path = nowhere / "x"
            return spooled_object

        receiver.server.begin = begin_nowhere
        assert send(receiver, radiograph()) == [0xA700]
        receiver.server.begin = begin
        assert send(receiver, radiograph()) == [0x0000]
    assert states(desk) == ["accepted"]


@sqlite
def test_with_the_store_in_a_bucket_an_object_goes_there(
    desk: Ledger, served_objects: ObjectStore, bucket: str
) -> None:
    store = served_objects.store(bucket)
    with receiving(desk) as receiver:
        receiver.reception.intake = replace(receiver.reception.intake, store=store)
        assert send(receiver, radiograph()) == [0x0000]
        (arrival,) = arrivals(desk)
        assert hashlib.sha256(store.get(OBJECTS, arrival.digest)).hexdigest() == arrival.digest
        assert spooled(desk) == []
        served_objects.stop()
        until(lambda: receiver.reception.refusal() is not None)
        assert send(receiver, radiograph(2)) == [0xA700]
        served_objects.start()
        until(lambda: receiver.reception.refusal() is None)
        assert send(receiver, radiograph(2)) == [0x0000]
    assert reconcile(desk.database, store).holds


@sqlite
def test_the_receiver_counts_what_its_peers_do(desk: Ledger) -> None:
    with receiving(desk) as receiver:
        send(receiver, radiograph(), radiograph(), called=STAT)
        assert associate(receiver, calling="<b>STRANGER</b>").is_rejected
        receiver.spool.limit_bytes = 100
        send(receiver, radiograph(2))
        with metrics_served(receiver.settings, receiver.tallies):
            pass
        told = generate_latest(receiver.tallies.registry).decode()
    samples = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in told.splitlines() if line[0] != "#"}
    assert samples[f'screening_receiver_associations_total{{peer="{CALLER}"}}'] == 2
    assert samples['screening_receiver_rejections_total{reason="unknown_caller"}'] == 1
    assert samples[f'screening_receiver_objects_total{{peer="{CALLER}"}}'] == 2
    assert samples[f'screening_receiver_bytes_total{{peer="{CALLER}"}}'] > 10_000
    assert samples['screening_receiver_answers_total{status="0000"}'] == 2
    assert samples['screening_receiver_answers_total{status="C000"}'] == 1
    assert samples["screening_receiver_answer_seconds_count"] == 3
    assert "STRANGER" not in told  # no word of a peer is a label
