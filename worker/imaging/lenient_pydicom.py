"""pydicom reads without validating, warning and logging: its messages quote values, which may identify patients."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pydicom import config

#: Above every level of a log record.
_SILENT = logging.CRITICAL + 1


class LenientMode:
    """Turns off pydicom's validation, warnings and logging while at least one thread reads a header.

    These switches are global to the process and intake reads in several threads: the first thread turns them off, the
    last one turns them on again. The log stays off: to turn it on again would clear what every logger of the process
    remembers, twice for each file.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._switches = ExitStack()

    def enter(self) -> None:
        """Count one more reading thread."""
        with self._lock:
            if self._inside == 0:
                self._switch_off()
            self._inside += 1

    def leave(self) -> None:
        """Count one reading thread less."""
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._switches.close()

    def _switch_off(self) -> None:
        logger = logging.getLogger("pydicom")
        if logger.level != _SILENT:
            logger.setLevel(_SILENT)
        self._switches.enter_context(warnings.catch_warnings())
        self._switches.enter_context(config.disable_value_validation())
        warnings.simplefilter("ignore")


_LENIENT = LenientMode()


@contextmanager
def lenient_pydicom() -> Iterator[None]:
    """Stop pydicom from validating, warning and logging: its messages quote values, which may identify patients."""
    _LENIENT.enter()
    try:
        yield
    finally:
        _LENIENT.leave()
