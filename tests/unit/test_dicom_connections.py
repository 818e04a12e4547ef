"""Connections that ask for nothing make room, from however many addresses; those with an association never do."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from worker.dicom.receive.connections import MOST_CONNECTIONS, MOST_LEAVING, MOST_OF_AN_ADDRESS, Connections


class Peers:
    """Connections whose other ends are here too."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack, self.connections = stack, Connections()
        self.other_ends: dict[socket.socket, socket.socket] = {}

    def connect(self, address: str) -> socket.socket | None:
        """A new connection; None when there is no place for it."""
        ours, theirs = socket.socketpair()
        self.stack.enter_context(ours)
        self.stack.enter_context(theirs)
        self.other_ends[ours] = theirs
        return ours if self.connections.take(ours, address) else None

    def fill(self, *addresses: str) -> list[socket.socket]:
        """Connections that ask for nothing take all places."""
        held = [self.connect(addresses[number % len(addresses)]) for number in range(MOST_CONNECTIONS)]
        return [connection for connection in held if connection is not None]

    def is_shut(self, connection: socket.socket) -> bool:
        other = self.other_ends[connection]
        other.setblocking(False)
        try:
            return other.recv(1) == b""
        except BlockingIOError:
            return False


@pytest.fixture
def peers() -> Iterator[Peers]:
    with ExitStack() as stack:
        yield Peers(stack)


@pytest.mark.parametrize("count", [3, 8, 64])
def test_addresses_that_fill_all_places_keep_nobody_out(peers: Peers, count: int) -> None:
    held = peers.fill(*(f"10.0.0.{number}" for number in range(count)))
    assert len(held) == MOST_CONNECTIONS
    asking = peers.connect("10.1.0.1")
    assert asking is not None
    assert not peers.is_shut(asking)
    assert [peers.is_shut(each) for each in held] == [True] + [False] * (MOST_CONNECTIONS - 1)  # the oldest


def test_the_address_that_holds_most_loses_its_own(peers: Peers) -> None:
    honest = [peers.connect(f"10.1.0.{number}") for number in range(20)]
    held = [peers.connect(f"10.0.0.{number % 2}") for number in range(MOST_CONNECTIONS - 20)]
    later = [peers.connect("10.2.0.1") for _ in range(10)]
    assert None not in [*honest, *held, *later]
    assert not any(peers.is_shut(each) for each in [*honest, *later] if each)
    assert sum(peers.is_shut(each) for each in held if each) == 10


def test_an_address_beyond_its_share_loses_its_own_and_no_other(peers: Peers) -> None:
    other = peers.connect("10.0.0.2")
    held = [peers.connect("10.0.0.1") for _ in range(MOST_OF_AN_ADDRESS + 1)]
    assert None not in [other, *held]
    assert [peers.is_shut(each) for each in [other, *held] if each] == [False, True] + [False] * MOST_OF_AN_ADDRESS


def test_an_association_makes_room_for_nobody(peers: Peers) -> None:
    held = peers.fill("10.0.0.1", "10.0.0.2", "10.0.0.3")
    for each in held:
        peers.connections.associated(each)
    assert peers.connect("10.1.0.1") is None
    assert not any(peers.is_shut(each) for each in held)


def test_threads_that_do_not_end_bound_what_makes_room(peers: Peers) -> None:
    held = peers.fill("10.0.0.1", "10.0.0.2", "10.0.0.3")
    taken = [peers.connect("10.0.0.1") is not None for _ in range(MOST_LEAVING + 5)]
    assert taken == [True] * MOST_LEAVING + [False] * 5
    assert sum(peers.is_shut(each) for each in held) <= MOST_LEAVING, "who is refused costs nobody a place"
    assert len(peers.connections) == MOST_CONNECTIONS + MOST_LEAVING


def test_a_place_is_free_again_after_its_connection(peers: Peers) -> None:
    held = peers.fill("10.0.0.1", "10.0.0.2", "10.0.0.3")
    peers.connections.leave(held[-1])
    assert peers.connect("10.1.0.1") is not None
    assert not any(peers.is_shut(each) for each in held)
