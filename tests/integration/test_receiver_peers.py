"""Peers that are not on the list, ask too much, speak the protocol badly or vanish: nobody else notices."""

import logging
import random
import ssl
import struct
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import certificate
from tests.dicom_peers import association_request, client_context, command_set, echo_request, p_data
from tests.ledger import Ledger
from tests.phantoms import EXPLICIT_LITTLE
from tests.receiver import (
    CALLER,
    OURS,
    associate,
    connection,
    data_set_of,
    pdu,
    radiograph,
    receiving,
    send,
    send_bytes,
    threads_of_associations,
    until,
)
from worker.dicom import deadline_socket
from worker.dicom.log_limit import LogLimit
from worker.dicom.receive import connections, spooling_provider
from worker.dicom.receive.receiver import IDLE_S, Receiver
from worker.dicom.receive.titles import Titles
from worker.errors import BadSetting
from worker.monitoring.reconciliation import reconcile
from worker.settings import Settings

pytestmark = [
    pytest.mark.parametrize("kind", ["sqlite"]),
    # of pynetdicom's client after an abort; that the receiver leaves none open is tested by counting
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def settled(receiver: Receiver) -> bool:
    return receiver.server.open_connections() == 0 and receiver.spool.held() == 0 and not receiver._peers


def rejected(receiver: Receiver, reason: str) -> float:
    return float(
        receiver.tallies.registry.get_sample_value("screening_receiver_rejections_total", {"reason": reason}) or 0
    )


@pytest.mark.parametrize(
    ("calling", "called", "answer", "reason"),
    [
        ("STRANGER", OURS, (1, 1, 1), "unknown_caller"),
        ("STRANGER", "ANYTHING", (1, 1, 1), "unknown_caller"),
        (CALLER, "ANYTHING", (1, 1, 7), "called_title"),
    ],
)
def test_who_is_not_on_the_list_learns_nothing(
    desk: Ledger, calling: str, called: str, answer: tuple[int, int, int], reason: str
) -> None:
    with receiving(desk) as receiver:
        association = associate(receiver, calling=calling, called=called)
        assert association.is_rejected
        primitive = association.acceptor.primitive
        assert (primitive.result, primitive.result_source, primitive.diagnostic) == answer
        until(lambda: settled(receiver))
        assert rejected(receiver, reason) == 1


def test_a_caller_from_another_address_is_not_even_answered(desk: Ledger) -> None:
    with receiving(desk, receive_from=f"{CALLER}@10.0.0.0/8") as receiver, connection(receiver) as plain:
        assert plain.recv(100) == b""
        assert rejected(receiver, "address") == 1


def test_nobody_may_send_until_somebody_is_named(desk: Ledger) -> None:
    with receiving(desk, receive_from="") as receiver, connection(receiver) as plain:
        assert plain.recv(100) == b""


@pytest.mark.parametrize("entry", ["A" * 17, "A\\B", "A@nowhere", "A@10.0.0.1/8", "@10.0.0.1"])
def test_a_wrong_list_of_callers_is_a_bad_setting(desk: Ledger, entry: str) -> None:
    with pytest.raises(BadSetting, match="SCREENING_RECEIVE_FROM"):
        Titles.of(Settings(home=desk.settings.home, receive_from=f"OK, {entry}"))


def test_the_fifth_association_of_a_peer_and_the_seventeenth_of_all_are_rejected_for_now(desk: Ledger) -> None:
    callers = [f"MODALITY{n}" for n in range(5)]
    with receiving(desk, receive_from=",".join(callers)) as receiver:
        held = [associate(receiver, calling=caller) for caller in callers[:4] for _ in range(4)]
        assert all(association.is_established for association in held)
        assert associate(receiver, calling=callers[4]).is_rejected
        held[0].release()
        until(lambda: len(receiver._peers) == 15)
        fifth = associate(receiver, calling=callers[1])
        assert (fifth.is_rejected, fifth.acceptor.primitive.result) == (True, 2)  # transient: it tries again
        again = associate(receiver, calling=callers[4])
        assert again.is_established
        assert (rejected(receiver, "limit"), rejected(receiver, "peer_limit")) == (1, 1)
        for association in [*held[1:], again]:
            association.release()
        until(lambda: settled(receiver))


def test_half_open_connections_reject_nobody_and_end(desk: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline_socket, "PDU_DEADLINE_S", 0.5)
    with receiving(desk) as receiver:
        receiver.server.ae.acse_timeout = 1
        before = threads_of_associations()
        silent = [connection(receiver) for _ in range(connections.MOST_OF_AN_ADDRESS)]
        for number, context in enumerate(silent):
            context.__enter__().send(b"\x01\x00"[: number % 3])  # nothing, or the beginning of a PDU
        assert send(receiver, radiograph()) == [0x0000]
        until(lambda: receiver.server.open_connections() == 0)
        until(lambda: threads_of_associations() == before)
        for context in silent:
            context.__exit__(None, None, None)


def test_silent_connections_of_an_address_make_room_for_those_that_ask(desk: Ledger) -> None:
    with receiving(desk) as receiver, ExitStack() as stack:
        held = [stack.enter_context(connection(receiver)) for _ in range(connections.MOST_OF_AN_ADDRESS)]
        until(lambda: receiver.server.open_connections() == connections.MOST_OF_AN_ADDRESS)
        association = associate(receiver)
        assert association.is_established
        assert held[0].recv(100) == b""  # the oldest
        held += [stack.enter_context(connection(receiver)) for _ in range(connections.MOST_OF_AN_ADDRESS)]
        assert association.send_c_store(radiograph()).Status == 0x0000  # it makes room for nobody
        association.release()
        for each in held:
            each.close()
        until(lambda: settled(receiver))


def test_rejections_do_not_fill_the_log(desk: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with receiving(desk) as receiver:
        receiver.log_limit = LogLimit(lambda: 0.0)
        for _ in range(20):
            assert associate(receiver, calling="STRANGER").is_rejected
        until(lambda: settled(receiver))
        assert rejected(receiver, "unknown_caller") == 20  # all are counted
    (line,) = [vars(record) for record in caplog.records if record.message == "association_rejected"]
    assert (line["calling"], line["called"]) == ("STRANGER", OURS), "what to add to SCREENING_RECEIVE_FROM"


def test_an_association_without_a_byte_is_aborted(desk: Ledger) -> None:
    with receiving(desk) as receiver:
        assert receiver.server.ae.network_timeout == IDLE_S == 60
        receiver.server.ae.network_timeout = 0.5
        association = associate(receiver)
        until(lambda: association.is_aborted)
        until(lambda: settled(receiver))


def test_a_fault_while_a_request_is_judged_accepts_nobody(desk: Ledger) -> None:
    class Faulty:
        own, stat = OURS, ""

        def admits_address(self, _: str) -> bool:
            return True

        def admits(self, *_: str) -> bool:
            raise ZeroDivisionError

    with receiving(desk) as receiver:
        titles, receiver.titles = receiver.titles, Faulty()  # type: ignore[assignment]
        association = associate(receiver)
        assert (association.is_rejected, association.is_established) == (True, False)
        receiver.titles = titles
        until(lambda: settled(receiver))
        assert send(receiver, radiograph()) == [0x0000]


# no answer fits into such a PDU: the library's thread ends, and with it the connection
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("longest_pdu", [1, 6, 7, 2**32 - 1])
def test_a_peer_that_takes_absurd_pdus_leaves_nothing(desk: Ledger, longest_pdu: int) -> None:
    verification = {1: ("1.2.840.10008.1.1", EXPLICIT_LITTLE)}
    with receiving(desk) as receiver:
        with connection(receiver) as plain:
            plain.sendall(association_request(CALLER, contexts=verification, longest_pdu=longest_pdu))
            plain.sendall(p_data(1, 3, echo_request()) + pdu(5, b"\0" * 4))
            while plain.recv(1000):
                pass
        until(lambda: settled(receiver))
        assert send(receiver, radiograph()) == [0x0000]


#: Two fragments of 1,000 bytes that do not end a data set.
DRIPS = p_data(1, 0, b"\0" * 1000) + p_data(1, 0, b"\0" * 1000)


@pytest.mark.parametrize(
    ("sent", "request_s", "is_aborted"),
    [
        (p_data(1, 3, command_set("1.2.3.4")) + DRIPS, -1e9, True),
        (p_data(1, 3, command_set("1.2.3.4")) + DRIPS, 1e9, False),
        (p_data(1, 1, b"\0"), -1e9, True),
        (p_data(1, 1, b"\0"), 1e9, False),
    ],
    ids=["data set too slow", "data set", "command too slow", "command"],
)
def test_a_request_in_small_pieces_holds_its_place_for_a_bounded_time(
    desk: Ledger, monkeypatch: pytest.MonkeyPatch, sent: bytes, request_s: float, is_aborted: bool
) -> None:
    with receiving(desk) as receiver:
        monkeypatch.setattr(spooling_provider, "REQUEST_S", request_s)
        association = associate(receiver)
        association.dul.socket.socket.sendall(sent)
        if is_aborted:
            until(lambda: association.is_aborted)
        else:
            (ours,) = receiver.server.active_associations
            until(lambda: ours.dimse._command != b"" or receiver.spool.held() == 1)
            assert association.is_established
            association.abort()
        until(lambda: settled(receiver))
        monkeypatch.undo()
        assert send(receiver, radiograph()) == [0x0000]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\xff\xff\xff\xff" + b"A" * 100,
        struct.pack(">BBL", 1, 0, 2**16 + 1),
        pdu(1, b""),
        pdu(1, b"\x00\x01" + b"\xff" * 200),
        pdu(4, struct.pack(">LBB", 2, 1, 3)),
        pdu(5, b"\0" * 4),
        pdu(7, b"\0" * 4),
        pdu(9, b"\0" * 4),
        pdu(2, b"\0" * 80),
    ],
    ids=lambda sent: sent[:12].hex(),
)
def test_a_connection_that_speaks_nonsense_is_closed(
    desk: Ledger, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline_socket, "PDU_DEADLINE_S", 1.0)
    with receiving(desk) as receiver:
        with connection(receiver) as plain:
            plain.sendall(sent)
            while plain.recv(1000):
                pass
        until(lambda: settled(receiver))
        assert send(receiver, radiograph()) == [0x0000]


def open_sockets() -> int:
    """Sockets of this process; the pool of the database opens files as it likes."""
    links = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing itself
            links.append(str(path.readlink()))
    return sum(link.startswith("socket:") for link in links)


@pytest.mark.parametrize(
    "sent",
    [
        p_data(1, 2, b"\0" * 100),  # a data set without a command
        p_data(1, 1, b"\0" * 20_000),  # a command without an end
        p_data(1, 3, b"\0" * 100),  # no command
        p_data(99, 3, b"\0" * 100),
        pdu(4, b"\0\0\0\xff\x01\x03"),  # a fragment longer than its PDU
        pdu(4, struct.pack(">LB", 1, 1)),  # a fragment without a header
        pdu(4, b""),
    ],
    ids=range(7),
)
def test_an_association_that_breaks_the_protocol_is_aborted(desk: Ledger, sent: bytes) -> None:
    with receiving(desk) as receiver:
        association = associate(receiver)
        association.dul.socket.socket.sendall(sent)
        until(lambda: association.is_aborted or not association.is_established)
        until(lambda: settled(receiver))
        assert send(receiver, radiograph()) == [0x0000]


def command_of(field: int) -> bytes:
    """A command without a data set: a C-ECHO-RQ (0x30), an N-EVENT-REPORT-RQ (0x100) and so on."""
    uid = b"1.2.840.10008.1.1\0"
    body = struct.pack("<HHL", 0, 2, len(uid)) + uid + struct.pack("<HHLH", 0, 0x100, 2, field)
    body += struct.pack("<HHLH", 0, 0x110, 2, 1) + struct.pack("<HHLH", 0, 0x800, 2, 0x101)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


@pytest.mark.parametrize("field", [0x0020, 0x0010, 0x0021, 0x0100, 0x0FFF, 0x8001, 0x7777])
def test_a_service_that_is_not_offered_is_aborted_and_begins_no_thread(desk: Ledger, field: int) -> None:
    with receiving(desk) as receiver:
        association = associate(receiver)
        before = threading.active_count()
        association.dul.socket.socket.sendall(p_data(3, 3, command_of(field)) * 3)
        until(lambda: association.is_aborted)
        assert threading.active_count() <= before
        until(lambda: settled(receiver))


# an answer that was queued meanwhile ends the library's thread, and with it the connection
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_peer_that_asks_without_waiting_for_answers_is_aborted(desk: Ledger) -> None:
    with receiving(desk) as receiver:
        association = associate(receiver)
        with suppress(OSError):
            association.dul.socket.socket.sendall(p_data(3, 3, command_of(0x30)) * 2000)
        until(lambda: association.is_aborted or not association.is_established)
        until(lambda: settled(receiver))


def test_an_abort_in_the_middle_of_a_data_set_leaves_nothing(desk: Ledger) -> None:
    with receiving(desk) as receiver:
        before = threads_of_associations(), open_sockets()
        for how in ("abort", "close", "abort", "close"):
            association = associate(receiver)
            command = command_set("1.2.3.4")
            association.dul.socket.socket.sendall(p_data(1, 3, command) + p_data(1, 0, b"\0" * 60_000))
            until(lambda: receiver.spool.held() == 1)
            if how == "abort":
                association.abort()
            else:
                association.dul.socket.socket.shutdown(2)
            until(lambda: settled(receiver))
            association.kill()
        until(lambda: threads_of_associations() == before[0])
        until(lambda: open_sockets() <= before[1])
    assert desk.count("arrival") == 0


@pytest.mark.parametrize("uid", ["../../etc/passwd", "<b>1.2</b>", "1.2\n3", "", "1" * 65])
def test_a_command_whose_uid_is_none_keeps_nothing(desk: Ledger, uid: str) -> None:
    with receiving(desk) as receiver:
        association = associate(receiver)
        data = data_set_of(radiograph())
        association.dul.socket.socket.sendall(p_data(1, 3, command_set(uid)) + p_data(1, 2, data[:1000]))
        until(lambda: association.is_aborted)
        until(lambda: settled(receiver))
        assert send(receiver, radiograph()) == [0x0000]
    assert desk.count("arrival") == 1


@pytest.mark.parametrize("size", [1, 7, 100, 4095, 16_383, 131_072 - 7])
def test_fragments_of_every_odd_size_give_the_same_object(desk: Ledger, size: int) -> None:
    data = data_set_of(radiograph())[: 10_000 if size < 100 else None]
    uid = str(radiograph().SOPInstanceUID)
    with receiving(desk) as receiver:
        association = associate(receiver)
        fragments = [data[at : at + size] for at in range(0, len(data), size)]
        stream = [p_data(1, 2 if at == len(fragments) - 1 else 0, fragment) for at, fragment in enumerate(fragments)]
        association.dul.socket.socket.sendall(p_data(1, 3, command_set(uid)) + b"".join(stream))
        until(lambda: receiver.tallies.answers.labels("0000")._value.get() == 1)
        association.release()
        until(lambda: settled(receiver))
    (digest,) = {row.digest for row in desk_arrivals(desk)}
    from worker.store import OBJECTS

    assert desk.store.get(OBJECTS, digest).endswith(data)


def desk_arrivals(desk: Ledger) -> list[Any]:
    from sqlalchemy import text

    with desk.database.reading() as opened:
        return list(opened.execute(text("SELECT * FROM arrival")))


def mutated(number: int) -> bytes:
    """The data set of a radiograph with damage that depends on the number alone."""

    chance = random.Random(number)
    data = bytearray(data_set_of(radiograph(number % 7 + 1))[:3000])
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randint(1, 40)]
            case 2:
                data[at:at] = chance.randbytes(chance.randint(1, 40))
            case _:
                data = data[: max(20, at)]
    return bytes(data) or b"\0"  # the client sends no fragment at all of an empty one


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
def test_damaged_data_sets_are_each_accounted_for(desk: Ledger, count: int) -> None:
    answers: dict[int | None, int] = {}
    with receiving(desk) as receiver:
        association = associate(receiver)
        for number in range(count):
            status = send_bytes(association, mutated(number), str(radiograph(number % 7 + 1).SOPInstanceUID))
            answers[status] = answers.get(status, 0) + 1
        association.release()
        until(lambda: settled(receiver))
        until(lambda: reconcile(desk.database, desk.store).files.get("waiting", 0) == 0)
    assert set(answers) <= {0x0000, 0xA900, 0xC000}
    account = reconcile(desk.database, desk.store)
    assert account.holds
    assert account.files_seen == answers[0x0000]


@pytest.mark.parametrize("count", [30, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_many_associations_leave_threads_and_files_as_they_were(desk: Ledger, count: int) -> None:
    with receiving(desk) as receiver:
        send(receiver, radiograph())
        until(lambda: settled(receiver))
        before = threading.active_count(), open_sockets()
        for _ in range(count):
            associate(receiver).release()
        until(lambda: settled(receiver))
        until(lambda: threading.active_count() <= before[0])
        until(lambda: open_sockets() <= before[1])


def test_with_tls_and_with_certificates_of_clients(desk: Ledger, tmp_path: Path) -> None:
    own, client = certificate(tmp_path, "receiver"), certificate(tmp_path, "modality")
    files: dict[str, Any] = {"receive_tls_certificate": str(own[0]), "receive_tls_key": str(own[1])}
    with receiving(desk, **files) as receiver:
        assert send(receiver, radiograph(), tls_args=(client_context(own[0]), "127.0.0.1")) == [0x0000]
        assert not associate(receiver).is_established  # without TLS
        with connection(receiver):  # a peer that sends no request delays no other
            assert send(receiver, radiograph(2), tls_args=(client_context(own[0]), "127.0.0.1")) == [0x0000]
        old = client_context(own[0])
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        old.set_ciphers("AES128-SHA256")
        assert not associate(receiver, tls_args=(old, "127.0.0.1")).is_established
    with receiving(desk, **files, receive_tls_clients=str(client[0])) as receiver:
        assert not associate(receiver, tls_args=(client_context(own[0]), "127.0.0.1")).is_established
        assert send(receiver, radiograph(3), tls_args=(client_context(own[0], client), "127.0.0.1")) == [0x0000]


def test_a_tls_file_that_is_not_there_is_a_bad_setting(desk: Ledger) -> None:
    with pytest.raises(BadSetting, match="RECEIVE_TLS"), receiving(desk, receive_tls_certificate="nowhere.pem"):
        pass
