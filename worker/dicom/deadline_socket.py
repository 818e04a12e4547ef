"""The socket of an association, with deadlines and a greatest PDU length, so that no peer can block a thread.

pynetdicom itself waits for its peer without a bound. Knows PDUs by their length alone (PS3.8 9.3).
"""

import math
import socket
import time
from contextlib import suppress

from pynetdicom.transport import AssociationSocket

#: A longer PDU closes the connection. Requests of known senders for 128 contexts have 20 KB; the library takes three
#: seconds to parse one of a megabyte, and it does so before anybody knows who asks.
LONGEST_REQUEST_BYTES, LONGEST_PDU_BYTES = 2**16, 2**18

#: States in which data may come (PS3.8 9.2): as soon as the acceptance is sent, before the thread of its association
#: has noticed it.
TRANSFERRING = frozenset({"Sta6", "Sta7", "Sta8"})

#: A PDU that has begun must be there after this time.
PDU_DEADLINE_S = 30.0

#: After an abort or a rejection, what still comes is read for this time (state 13 of PS3.8 9.2).
CLOSE_DEADLINE_S, AWAITING_CLOSE = 1.0, "Sta13"


class DeadlineSocket(AssociationSocket):
    """A socket on which each PDU has a deadline and a greatest length.

    `last_s`: the moment (time.monotonic) after which nothing is sent or received any more, whatever the peer does.
    """

    last_s: float = math.inf

    def recv(self, nr_bytes: int) -> bytearray:
        """So many bytes, or fewer when the peer has closed. Raises TimeoutError, and OSError for a PDU too long."""
        state = self.assoc.dul.state_machine.current_state
        if nr_bytes > (LONGEST_PDU_BYTES if state in TRANSFERRING else LONGEST_REQUEST_BYTES):
            raise OSError("the peer announces a PDU beyond the limit")
        assert self.socket is not None
        data, received = bytearray(nr_bytes), 0
        deadline = time.monotonic() + (CLOSE_DEADLINE_S if state == AWAITING_CLOSE else PDU_DEADLINE_S)
        with memoryview(data) as view:
            while received < nr_bytes:
                self._wait_no_longer_than(deadline)
                count = self.socket.recv_into(view[received:])
                if count == 0:
                    break
                received += count
        return data[:received]

    def _wait_no_longer_than(self, deadline: float) -> None:
        left = min(deadline, self.last_s) - time.monotonic()
        if left <= 0:
            raise TimeoutError("the peer does not finish its PDU, or its time is over")
        if self.socket is None:
            raise ConnectionAbortedError("it was closed here")
        self.socket.settimeout(left)

    def send(self, bytestream: bytes) -> None:
        """All bytes within the deadline of a PDU; else the connection counts as closed (Evt17), as the library does."""
        deadline = time.monotonic() + PDU_DEADLINE_S
        try:
            with memoryview(bytestream) as view:
                sent = 0
                while sent < len(view):
                    self._wait_no_longer_than(deadline)
                    sent += self.socket.send(view[sent:])
        except OSError:
            self.event_queue.put("Evt17")

    def _shutdown_socket(self) -> None:
        """Shut down and close, each in any case: a reset connection cannot be shut down, and must be closed."""
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                self.socket.close()
