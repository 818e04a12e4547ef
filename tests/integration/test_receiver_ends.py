"""A receiver that is asked to end does so in bounded time, whatever a peer, the store or a comparison does."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import evt
from pynetdicom.association import Association

from tests.certificates import certificate
from tests.dicom_peers import association_request, command_set, echo_request, p_data
from tests.ledger import Ledger
from tests.receiver import (
    CALLER,
    associate,
    connection,
    pdu,
    radiograph,
    receiving,
    send,
    threads_of_associations,
    until,
)
from worker.decoding.decoder import Decoder
from worker.dicom import deadline_socket
from worker.dicom.receive import receiver as receiver_module
from worker.dicom.receive.receiver import Receiver

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("kind", ["sqlite"]),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

#: Time that the associations of these tests get to end by themselves, and the longest that the receiver may take. A
#: wait for a peer would be PDU_DEADLINE_S (30 s) or for ever; the rest is for a busy machine.
DRAIN_S, BOUND_S = 0.2, 20.0


@contextmanager
def ends_in_time(desk: Ledger, **settings: Any) -> Iterator[Receiver]:
    """A receiver that is asked to end at the end of the block."""
    with receiving(desk, drain_s=DRAIN_S, **settings) as receiver:
        yield receiver
        begun = time.monotonic()
    assert time.monotonic() - begun < BOUND_S
    assert receiver.spool.held() == 0


def state_of(receiver: Receiver) -> str | None:
    """The state of the upper layer (PS3.8 9.2) of the one association."""
    associations = receiver.server.active_associations
    return associations[0].dul.state_machine.current_state if associations else None


@pytest.mark.parametrize("sent", [b"", b"\x01\x00", pdu(1, b"\0" * 100)[:50]])
def test_a_connection_that_never_asks_for_an_association(desk: Ledger, sent: bytes) -> None:
    with connection_that_stays(desk, sent) as receiver:
        until(lambda: state_of(receiver) in ("Sta1", "Sta2"))  # it may read before it knows the connection


@contextmanager
def connection_that_stays(desk: Ledger, sent: bytes, **settings: Any) -> Iterator[Receiver]:
    with ends_in_time(desk, **settings) as receiver:
        plain = socket.create_connection(("127.0.0.1", receiver.port), timeout=90)
        plain.sendall(sent)
        yield receiver
    with plain:
        while plain.recv(4096):  # an abort may come before the end
            pass


def test_a_request_that_is_still_being_judged(desk: Ledger) -> None:
    judged, before = threading.Event(), threads_of_associations()
    with ends_in_time(desk) as receiver:
        titles = receiver.titles

        class Slow:
            own, stat = titles.own, titles.stat
            admits_address, answers_to = titles.admits_address, titles.answers_to

            def admits(self, calling: str, address: str) -> bool:
                return judged.wait(60) and titles.admits(calling, address)

        receiver.titles = Slow()  # type: ignore[assignment]
        asking = threading.Thread(target=associate, args=[receiver], daemon=True)
        asking.start()
        until(lambda: state_of(receiver) == "Sta3")
    judged.set()
    asking.join(20)
    until(lambda: threads_of_associations() <= before)


@pytest.mark.parametrize("half", [b"", b"\x04\x00", p_data(1, 0, b"\0" * 1000)[:500]])
def test_an_association_in_the_middle_of_a_data_set(desk: Ledger, half: bytes) -> None:
    with ends_in_time(desk) as receiver:
        association = associate(receiver)
        data = p_data(1, 3, command_set(str(radiograph().SOPInstanceUID))) + p_data(1, 0, b"\0" * 60_000)
        wire_of(association).sendall(data + half)
        until(lambda: receiver.spool.held() == 1)
    until(lambda: association.is_aborted)
    assert desk.count("arrival") == 0


def test_a_peer_that_does_not_read_its_answers(desk: Ledger) -> None:
    with ends_in_time(desk) as receiver:
        association = associate(receiver)
        (ours,) = receiver.server.active_associations
        opened, peer = ours.dul.socket.socket, wire_of(association)
        association.dul.socket.socket = None  # its threads read no more
        with opened.dup() as filled, suppress(BlockingIOError):
            filled.setblocking(False)
            while True:
                filled.send(b"\0" * 65_536)
        answers: list[object] = []
        ours.bind(evt.EVT_DIMSE_SENT, answers.append)
        peer.sendall(p_data(3, 3, echo_request()))
        until(lambda: len(answers) == 1 and ours.dul.to_provider_queue.empty())
    peer.close()


def test_a_rejected_peer_that_begins_another_pdu(desk: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline_socket, "CLOSE_DEADLINE_S", 60.0)
    refused = association_request(CALLER, protocol_version=2)
    whole = p_data(1, 0, b"\0" * 100)  # is read before the request is answered; the next one, when it has been
    with connection_that_stays(desk, refused + whole + whole[:50]) as receiver:
        until(lambda: state_of(receiver) == "Sta13")


def test_a_tls_handshake_under_way(desk: Ledger, tmp_path: Path) -> None:
    own = certificate(tmp_path, "receiver")
    files = {"receive_tls_certificate": str(own[0]), "receive_tls_key": str(own[1])}
    with connection_that_stays(desk, b"\x16\x03\x01", **files) as receiver:
        until(lambda: receiver.server.open_connections() == 1)


def test_a_store_that_hangs(desk: Ledger) -> None:
    goes_on, before = threading.Event(), threads_of_associations()

    class Hanging:
        def __init__(self, store: Any) -> None:
            self.store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self.store, name)

        def adopt(self, *arguments: Any) -> Any:
            goes_on.wait(120)
            return self.store.adopt(*arguments)

    with receiving(desk, drain_s=DRAIN_S) as receiver:
        receiver.reception.intake = replace(receiver.reception.intake, store=Hanging(desk.store))
        sending = threading.Thread(target=lambda: answers.extend(send(receiver, radiograph())), daemon=True)
        answers: list[int | None] = []
        sending.start()
        until(lambda: receiver.spool.held() == 1)
        begun = time.monotonic()
    assert time.monotonic() - begun < BOUND_S
    sending.join(20)
    assert answers == [None]  # and not success
    goes_on.set()
    until(lambda: threads_of_associations() <= before)


def test_a_comparison_that_takes_long(desk: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver_module, "COMPARISON_S", 0.2)
    begun_to_compare, goes_on = threading.Event(), threading.Event()

    class Slow(Decoder):
        def stored_digest(self, content: bytes, limits: Any) -> str:
            begun_to_compare.set()
            goes_on.wait(120)
            return super().stored_digest(content, limits)

    other = radiograph()
    other.PixelData = bytes(reversed(other.PixelData))
    with ends_in_time(desk) as receiver:
        receiver.reception.intake = replace(receiver.reception.intake, decoder=Slow())
        assert send(receiver, radiograph(), other) == [0x0000] * 2
        assert begun_to_compare.wait(60)
    with desk.database.reading() as opened:
        assert [*opened.exec_driver_sql("SELECT state FROM arrival ORDER BY id").scalars()] == ["accepted", "waiting"]
    goes_on.set()
    until(lambda: not any(thread.name == "comparison" for thread in threading.enumerate()))


def test_what_ends_by_itself_is_not_aborted(desk: Ledger) -> None:
    with receiving(desk, drain_s=60.0) as receiver:
        association = associate(receiver)
        drained: list[bool] = []
        draining = threading.Thread(target=lambda: drained.append(receiver.server.drain(60.0)))
        draining.start()
        until(lambda: not receiver.server.ae._servers)
        assert association.send_c_store(radiograph()).Status == 0x0000
        association.release()
        draining.join(60)
        assert drained == [True]
        receiver.server.drain = lambda within_s: True  # type: ignore[method-assign]  # noqa: ARG005 not twice
    assert association.is_released


def wire_of(association: Association) -> socket.socket:
    opened = association.dul.socket.socket
    assert isinstance(opened, socket.socket)
    return opened


def test_a_connection_for_which_no_thread_starts_is_forgotten(desk: Ledger) -> None:
    def cannot(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with receiving(desk) as receiver:
        begin = receiver.server.process_request
        receiver.server.process_request = cannot
        with connection(receiver) as plain:
            assert plain.recv(10) == b""
        until(lambda: receiver.server.open_connections() == 0)
        receiver.server.process_request = begin
        assert send(receiver, radiograph()) == [0x0000]
