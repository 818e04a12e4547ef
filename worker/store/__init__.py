"""Content by its digest: objects, overlays, models, comparisons. In a folder, or in an S3 bucket.

Knows bytes and digests. Does not know what they mean, and takes no name from a file.
Begin with `contract`, then `folder`.
"""

import importlib.util
from functools import cache

from worker.errors import BadSetting
from worker.settings import Settings
from worker.store.contract import (
    COMPARISONS,
    MODELS,
    OBJECTS,
    OVERLAYS,
    PIECE,
    Kept,
    Links,
    Store,
    Stored,
    Sums,
    crc_of,
    is_intact,
    sums_of,
)
from worker.store.folder import FolderStore
from worker.store.mounted_folders import MountedFolders

__all__ = [
    "COMPARISONS",
    "MODELS",
    "OBJECTS",
    "OVERLAYS",
    "PIECE",
    "Kept",
    "Links",
    "Store",
    "Stored",
    "Sums",
    "crc_of",
    "is_intact",
    "open_store",
    "sums_of",
]


@cache
def open_store(settings: Settings) -> Store:
    """The store that the settings name, one per process; does not connect to it yet.

    Raises BadSetting when it needs packages that are not installed.
    """
    if settings.store_folder is not None:
        mounted = None if settings.is_store_at_home else MountedFolders(settings.home)
        return FolderStore(settings.store_folder, mounted)
    if importlib.util.find_spec("s3fs") is None:
        raise BadSetting(
            "SCREENING_STORE names an object store, which needs the extra `s3`: `pip install '.[s3]'` where the source"
            " of this program lies, or name a folder"
        )
    from worker.store.bucket import BucketStore

    return BucketStore(settings.store)
