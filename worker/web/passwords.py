"""Passwords as argon2id hashes. At most two are computed at a time, because each takes 32 MiB of memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from worker.ledger.reading_room.accounts import AccountRefused
from worker.web.refusal import Refused

SHORTEST, LONGEST = 12, 1024

HASHER = PasswordHasher(time_cost=3, memory_cost=32 * 1024, parallelism=1)

#: Two at a time; a log-in checks its lock and notes its failure while it has its turn.
TURNS = threading.Semaphore(2)
WAIT_S = 5.0

#: The hash that an unknown name is compared with, so that it takes as long as a known one.
NOBODY = HASHER.hash("nobody has this password")


@contextmanager
def turn() -> Iterator[None]:
    """One of the two turns; raises Refused after a few seconds, so that a flood of log-ins holds up nobody else."""
    if not TURNS.acquire(timeout=WAIT_S):
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many log-ins at a time: try again")
    try:
        yield
    finally:
        TURNS.release()


def hashed(password: str) -> str:
    """The hash of a new password. Raises AccountRefused for one that is too short."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise AccountRefused(f"a password has at least {SHORTEST} characters, and at most {LONGEST:,}")
    with turn():
        return HASHER.hash(password)


def is_right(password: str, kept: str | None) -> bool:
    """Whether a password is the one of this hash; without a hash it is compared all the same. Needs a turn."""
    try:
        HASHER.verify(kept or NOBODY, password[:LONGEST])
    except (VerificationError, InvalidHashError):
        return False
    return kept is not None
