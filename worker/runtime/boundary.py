"""What a piece of work gives, or the error that it raised: for work that must not cost other work anything."""

from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")


def result_or_error(work: Callable[[], R]) -> R | Exception:
    """The result of `work`, or its error, whichever it is; the caller records or raises that. Signals pass."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 the boundary of a request, a study, a file, an object or a shadow
        return error
