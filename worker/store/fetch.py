"""The bytes of an accepted object: from the store, or from where the file was left."""

from pathlib import Path

from worker.errors import SourceChanged
from worker.store import OBJECTS, Store, is_intact


def fetch(store: Store, digest: str, left_at: str | None, crc: int | None = None) -> bytes:
    """The bytes of an accepted object: from the store, or from where it was left.

    Raises StorageUnavailable, StoredFileLost, and SourceChanged when a file left in the inbox is gone or changed.
    """
    if left_at is None:
        return store.get(OBJECTS, digest, crc)
    try:
        content = Path(left_at).read_bytes()
    except OSError as error:
        raise SourceChanged(f"the file left in the inbox cannot be read any more ({error.strerror})") from error
    if not is_intact(content, digest, crc):
        raise SourceChanged("the file left in the inbox has changed since it was accepted")
    return content
