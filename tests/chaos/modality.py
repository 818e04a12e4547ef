"""The modality of a chaos run: it sends by C-STORE, each object again until it is answered with success."""

import threading
from io import BytesIO
from queue import SimpleQueue

from pydicom import dcmread

from tests.chaos.drops import Drop
from tests.receiver import OURS, STAT, store_all

#: Associations at a time; the receiver takes four of one peer.
SENDERS = 2


class Modality:
    """Sends in threads of its own what it is given."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answered: set[str] = set()  #: SOP Instance UIDs of what was answered with success
        self.is_sending = threading.Event()  #: an object is on its way
        self._given = 0
        self._left: SimpleQueue[Drop | None] = SimpleQueue()
        self._stop = threading.Event()
        self._senders = [threading.Thread(target=self._send, name="modality") for _ in range(SENDERS)]
        for sender in self._senders:
            sender.start()

    @property
    def is_done(self) -> bool:
        """Whether everything was answered with success."""
        return len(self.answered) == self._given

    def send(self, drop: Drop) -> None:
        """Send one object as soon as may be."""
        self._given += 1
        self._left.put(drop)

    def close(self) -> None:
        """Send no more."""
        self._stop.set()
        for _ in self._senders:
            self._left.put(None)
        for sender in self._senders:
            sender.join()

    def _send(self) -> None:
        while (drop := self._left.get()) is not None:
            called = STAT if drop.is_stat else OURS
            self.is_sending.set()
            store_all(self.port, [dcmread(BytesIO(drop.content))], self.answered, self._stop, called)
            self.is_sending.clear()
