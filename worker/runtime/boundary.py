"""Runs work whose failure must not stop other work: gives its result, or the error that it raised."""

from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")


def result_or_error(work: Callable[[], R]) -> R | Exception:
    """The result of `work`, or its error, which the caller records or raises. Signals are not caught."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 the boundary of a request, a study, a file, an object or a shadow
        return error
