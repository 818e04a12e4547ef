"""Where a queue worker waits until the ledger and the broker are there."""

import fcntl
from contextlib import ExitStack, suppress

from worker.runtime.state_folder import make_home
from worker.settings import Settings


class Gate:
    """Where a queue worker waits until ledger and broker are there; a file lock, so that no owner's death shuts it."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._path = settings, settings.home / "gate"
        self._shut = ExitStack()

    def __enter__(self) -> None:
        """Shut it; raises NoHome."""
        make_home(self._settings)
        file = self._shut.enter_context(self._path.open("a"))
        fcntl.flock(file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        """Open it, if nobody did."""
        self.open()

    def open(self) -> None:
        """Let whoever waits pass."""
        self._shut.close()

    def pass_through(self) -> None:
        """Wait as long as it is shut."""
        with suppress(FileNotFoundError), self._path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
