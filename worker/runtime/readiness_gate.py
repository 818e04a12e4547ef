"""Makes a queue worker wait until the ledger and the broker are ready."""

import fcntl
from contextlib import ExitStack, suppress

from worker.runtime.state_folder import make_home
from worker.settings import Settings


class Gate:
    """A queue worker waits at it until ledger and broker are ready. A file lock, so that it opens if its owner dies."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._path = settings, settings.home / "gate"
        self._shut = ExitStack()

    def __enter__(self) -> None:
        """Close the gate; raises NoHome."""
        make_home(self._settings)
        file = self._shut.enter_context(self._path.open("a"))
        fcntl.flock(file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        """Open the gate if it is still closed."""
        self.open()

    def open(self) -> None:
        """Let the waiting worker continue."""
        self._shut.close()

    def pass_through(self) -> None:
        """Wait while the gate is closed."""
        with suppress(FileNotFoundError), self._path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
