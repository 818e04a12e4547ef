"""Keyed pseudonyms: HMAC-SHA-256 of what identifies a patient, and the key, which lies in the store.

All machines of a house share the store, so they give the same. Who has the key can tell whose pseudonym it is.
"""

import hmac
import secrets

from worker.errors import StorageUnavailable
from worker.store import Store

KEY_FILE = "pseudonym.key"
KEY_BYTES = 32

#: Hexadecimal digits of a pseudonym: 96 bits, of which no two patients of a hospital share one.
DIGITS = 24


def pseudonym(key: bytes, *words: str | None) -> str:
    """HMAC-SHA-256 of the words, the first digits: the same words, the same pseudonym; without the key, nothing."""
    return digest(key, *words).hex()[:DIGITS]


def patient_pseudonym(key: bytes, issuer: str | None, patient_id: str | None, study_uid: str) -> str:
    """A patient's pseudonym, alike in every export; who has no Patient ID is told by the study alone."""
    return pseudonym(key, issuer, patient_id) if patient_id else pseudonym(key, study_uid)


def digest(key: bytes, *words: str | None) -> bytes:
    """HMAC-SHA-256 of the words, whole."""
    return hmac.digest(key, "\x1f".join(word or "" for word in words).encode(), "sha256")


def load_key(store: Store) -> bytes:
    """The key of the house whose store this is; made at first need. Raises StorageUnavailable."""
    key = store.keep_once(KEY_FILE, secrets.token_bytes(KEY_BYTES))
    if len(key) != KEY_BYTES:
        raise StorageUnavailable(
            f"{KEY_FILE} is incomplete: another process may just be making it; if it stays so, bring it back from the"
            " backup of the store, or remove it where no pseudonym was ever given"
        ).about(store.name)
    return key
