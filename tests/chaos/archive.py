"""The archive of a chaos run: it keeps the results that it accepts, is stopped for a while, and refuses for a while."""

import threading
import time
from contextlib import ExitStack

from pynetdicom import evt

from tests.chaos.servers import free_port
from tests.sent_results import ArchiveOfTest

#: Time between keeping an object and answering: a sender that is killed in it sends the object again.
ANSWER_AFTER_S = 0.05

#: The status of an archive that has no room (PS3.4 B.2.3): it asks the sender to come again.
OUT_OF_RESOURCES = 0xA700


class Archive(ArchiveOfTest):
    """Listens on one port whenever it is not stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()
        self._listening = ExitStack()
        self._is_stopped = True
        self.is_answering = threading.Event()  #: an object was kept, and its sender has no answer yet

    def start(self) -> None:
        """Listen."""
        self._listening.enter_context(self.listening())
        self._is_stopped = False

    def stop(self) -> None:
        """Listen no more, and abort every association at its next object."""
        self._is_stopped = True
        self._listening.close()

    def refuse(self) -> None:
        """Keep nothing, as an archive with a full disk."""
        self.status = OUT_OF_RESOURCES

    def accept(self) -> None:
        """Keep everything again."""
        self.status = 0x0000

    def _store(self, event: evt.Event) -> int:
        if self._is_stopped:
            event.assoc.abort()
            return OUT_OF_RESOURCES
        status = super()._store(event)
        self.is_answering.set()
        time.sleep(ANSWER_AFTER_S)
        self.is_answering.clear()
        return status
