"""The times of receiver and sender: a peer that does not read cannot hold a thread, and SIGTERM has an end."""

import queue
import socket

import pytest

from worker.cli.dicom import END_WITHIN_S
from worker.dicom import deadline_socket
from worker.dicom.deadline_socket import DeadlineSocket
from worker.dicom.receive import receiver, server, service, spooling_provider
from worker.dicom.send import sender
from worker.ledger.operations import signs_of_life


class Events:
    """What a socket tells its association."""

    def __init__(self) -> None:
        self.dul = self
        self.event_queue: queue.Queue[str] = queue.Queue()


def test_bytes_that_nobody_reads_close_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline_socket, "PDU_DEADLINE_S", 0.3)
    ours, peer = socket.socketpair()
    with ours, peer:
        events = Events()
        sending = DeadlineSocket(events, client_socket=ours)
        assert events.event_queue.get_nowait() == "Evt5"
        sending.send(b"\0" * 2**24)
        assert events.event_queue.get_nowait() == "Evt17"


class InState:
    """An association whose upper layer is in a state; its own thread has not noticed it."""

    is_established = False

    def __init__(self, state: str) -> None:
        self.dul = self.state_machine = self
        self.event_queue: queue.Queue[str] = queue.Queue()
        self.current_state = state


@pytest.mark.parametrize(("state", "is_taken"), [("Sta2", False), ("Sta3", False), ("Sta6", True), ("Sta13", False)])
def test_data_may_come_as_soon_as_the_acceptance_is_sent(state: str, is_taken: bool) -> None:
    ours, peer = socket.socketpair()
    size = deadline_socket.LONGEST_REQUEST_BYTES + 1
    with ours, peer:
        receiving = DeadlineSocket(InState(state), client_socket=ours)
        peer.setblocking(False)
        sent = peer.send(b"\0" * size)
        peer.close()
        if is_taken:
            assert len(receiving.recv(size)) == sent
        else:
            with pytest.raises(OSError, match="beyond the limit"):
                receiving.recv(size)


@pytest.mark.parametrize(
    ("took_s", "size_bytes", "is_late"),
    [
        (30.0, 0, False),
        (30.1, 0, True),  # a command that is not whole
        (60.0, 400_000, True),
        (60.0, 500_000, False),
        (3630.0, 50_000_000, True),  # an hour of small pieces
        (130.0, 15_000_000, False),  # a radiograph over a line of 1 Mbit/s
    ],
)
def test_a_request_must_come_on_at_the_least_rate(took_s: float, size_bytes: int, is_late: bool) -> None:
    assert spooling_provider.is_too_slow(took_s, size_bytes) is is_late


def test_all_that_may_last_after_sigterm_is_below_thirty_seconds() -> None:
    receiving_s = receiver.DRAIN_S + server.ABORT_S + server.SHUT_S + receiver.COMPARISON_S + service.DECODER_S
    receiving_s += signs_of_life.END_S
    assert receiving_s < END_WITHIN_S < 30
    assert sender.STOP_S < END_WITHIN_S
