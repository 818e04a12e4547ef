"""Keyed pseudonyms: HMAC-SHA-256 of what identifies a patient, and the key, which lies in the store.

All machines of a house share the store, so they give the same. Who has the key can tell whose pseudonym it is.
"""

import contextlib
import hmac
import os
import secrets
from pathlib import Path

from worker.errors import StorageUnavailable

KEY_FILE = "pseudonym.key"
KEY_BYTES = 32

#: Hexadecimal digits of a pseudonym: 96 bits, of which no two patients of a hospital share one.
DIGITS = 24


def pseudonym(key: bytes, *words: str | None) -> str:
    """HMAC-SHA-256 of the words, the first digits: the same words, the same pseudonym; without the key, nothing."""
    return digest(key, *words).hex()[:DIGITS]


def digest(key: bytes, *words: str | None) -> bytes:
    """HMAC-SHA-256 of the words, whole."""
    return hmac.digest(key, "\x1f".join(word or "" for word in words).encode(), "sha256")


def load_key(folder: Path) -> bytes:
    """The key of the house whose store lies in `folder`; made at first need. Raises StorageUnavailable."""
    path = folder / KEY_FILE
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise StorageUnavailable(f"cannot be used ({error.strerror})").about(str(path)) from error
    if len(key) != KEY_BYTES:
        raise StorageUnavailable("is incomplete: another process may just be making it; try again").about(str(path))
    return key


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileExistsError):  # another process was first
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
