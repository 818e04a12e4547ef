"""Keyed pseudonyms: HMAC-SHA-256 of what identifies a patient. The key is in the store.

All machines of an installation share the store, so they make the same pseudonyms. With the key, a pseudonym can be
traced to its patient.
"""

import hmac
import secrets

from worker.errors import StorageUnavailable
from worker.store import Store

KEY_FILE = "pseudonym.key"
KEY_BYTES = 32

#: Hexadecimal digits of a pseudonym: 96 bits, enough that no two patients of a hospital share one.
DIGITS = 24


def pseudonym(key: bytes, *words: str | None) -> str:
    """The first digits of the HMAC-SHA-256 of the words: the same words give the same pseudonym."""
    return digest(key, *words).hex()[:DIGITS]


def patient_pseudonym(key: bytes, issuer: str | None, patient_id: str | None, study_uid: str) -> str:
    """A patient's pseudonym, the same in every export; without a Patient ID it is derived from the study."""
    return pseudonym(key, issuer, patient_id) if patient_id else pseudonym(key, study_uid)


def digest(key: bytes, *words: str | None) -> bytes:
    """The complete HMAC-SHA-256 of the words."""
    return hmac.digest(key, "\x1f".join(word or "" for word in words).encode(), "sha256")


def load_key(store: Store) -> bytes:
    """The key of the installation with this store; made on first use. Raises StorageUnavailable."""
    key = store.keep_once(KEY_FILE, secrets.token_bytes(KEY_BYTES))
    if len(key) != KEY_BYTES:
        raise StorageUnavailable(
            f"{KEY_FILE} is incomplete: another process may be making it just now; if it stays so, restore it from the"
            " backup of the store, or remove it if no pseudonym was ever made"
        ).about(store.name)
    return key
