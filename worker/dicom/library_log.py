"""Replaces the log of pynetdicom by our own events, because its messages quote what a peer sent."""

import logging

from worker.dicom.log_limit import LogLimit

log = logging.getLogger(__name__)


class LibraryLog(logging.Handler):
    """Logs the place and the kind of an error of the library as an event of ours."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.limit = LogLimit()

    def emit(self, record: logging.LogRecord) -> None:
        """Log where it was logged, and nothing of what it says."""
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        place = f"{record.module}:{record.lineno}"
        left_out = self.limit.left_out(place, kind)
        if left_out is not None:
            about = {"place": place, "kind": kind, "left_out": left_out}
            level = record.levelno if record.levelno < logging.ERROR else logging.WARNING
            log.log(level, "association_fault", extra=about)


def quiet_library() -> None:
    """Send the log of pynetdicom through LibraryLog."""
    from pynetdicom import _config

    _config.LOG_HANDLER_LEVEL = "none"
    library = logging.getLogger("pynetdicom")
    library.handlers[:] = [LibraryLog()]
    library.propagate = False
