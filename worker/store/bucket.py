"""A store in a bucket of an object store with the S3 protocol. Endpoint, region and credentials come from the usual
AWS_* environment variables, or from botocore's other sources.
"""

import hashlib
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from worker.errors import BadSetting, StorageUnavailable, StoredFileLost
from worker.store.contract import ENDINGS, RESTORE, Kept, Stored, is_intact

#: An object that is put again gets a new date if it is older than this, in seconds; younger ones are never pruned.
FRESH_S = 3600.0

#: Every object goes up in one request, which the server takes whole or not at all; S3 takes 5 GiB so.
ONE_REQUEST_BYTES = 5 * 2**30

#: Tries of one request; after them the store counts as unavailable, and the caller tries again later.
TRIES = 2


class BucketStore:
    """Objects under `s3://BUCKET/PREFIX/KIND/first two digits/DIGEST`."""

    def __init__(self, url: str, fresh_s: float = FRESH_S, **options: Any) -> None:
        """`options`: of s3fs.S3FileSystem, in addition to the environment."""
        self.name = url.rstrip("/")
        self.fresh_s = fresh_s
        self._root = self.name.removeprefix("s3://")
        self._bucket = self._root.partition("/")[0]
        self._options = options
        self._connection: tuple[int, Any] | None = None

    def place(self, kind: str, digest: str) -> str:
        """The URL of the content of this digest, whether it exists or not."""
        return f"s3://{self._key(kind, digest)}"

    def put(self, kind: str, content: bytes) -> str:
        """`keep`, returning only the digest."""
        return self.keep(kind, content).digest

    def adopt(self, kind: str, file: Path, digest: str) -> Kept:
        """`keep` for the content of a file, which is then removed. Raises StorageUnavailable."""
        try:
            kept = self.keep(kind, file.read_bytes(), digest)
            file.unlink(missing_ok=True)
        except OSError as error:
            raise StorageUnavailable(f"a received file cannot be read ({error.strerror})").about(str(file)) from error
        return kept

    def draft(self, kind: str) -> None:
        """None: an object goes up whole."""

    def links(self, kind: str) -> None:
        """None: a bucket is no file system."""

    def keep(self, kind: str, content: bytes, digest: str | None = None) -> Kept:
        """Keep `content`: one request, after which the object is whole or absent.

        An object that exists is read, compared byte for byte, and replaced if it differs.
        `digest`: of the content, where it is known already. Raises StorageUnavailable.
        """
        digest = digest or hashlib.sha256(content).hexdigest()
        key = self._key(kind, digest)
        with self._translated_errors():
            found = self._find(key)
            if found is None or found["size"] != len(content) or self._read(key) != content:
                self._s3.pipe_file(key, content, chunksize=ONE_REQUEST_BYTES)
                return Kept(digest, is_proved=False)
            if time.time() - _modified_at(found) > self.fresh_s:
                # a new date keeps `remove` from removing it: S3 copies the object onto itself, and nothing is sent
                self._s3.cp_file(key, key, MetadataDirective="REPLACE")
        return Kept(digest, is_proved=True)

    def get(self, kind: str, digest: str, crc: int | None = None) -> bytes:
        """The content of a digest, verified by its CRC-32 if known. Raises StorageUnavailable, StoredFileLost."""
        with self._translated_errors():
            content = self._read(self._key(kind, digest))
        if content is None or not is_intact(content, digest, crc):
            fault = "gone" if content is None else "damaged"
            raise StoredFileLost(f"the stored file is {fault}: {RESTORE}").about(self.place(kind, digest))
        return content

    def has(self, kind: str, digest: str) -> bool:
        """Whether the content exists (by name; `get` verifies it). Raises StorageUnavailable."""
        with self._translated_errors():
            return self._find(self._key(kind, digest)) is not None

    def files(self, kind: str) -> Iterator[Stored]:
        """Every object of a kind, listed by its first two digits, so that few are in memory at once."""
        for folder in self._listed(f"{self._root}/{kind}"):
            if folder["type"] != "directory":
                continue
            for file in self._listed(folder["name"]):
                digest = file["name"].rpartition("/")[2].removesuffix(ENDINGS[kind])
                yield Stored(file["name"], digest, file["size"], _modified_at(file))

    def remove(self, stored: Stored, latest: float) -> bool:
        """Remove an object, unless it was put again after the moment `latest`; raises StorageUnavailable."""
        with self._translated_errors():
            found = self._find(stored.place)
            if found is not None and _modified_at(found) > latest:
                return False
            self._s3.rm_file(stored.place)  # S3 reports no error when it is already gone
        return True

    def keep_once(self, name: str, content: bytes) -> bytes:
        """Keep `content` under a plain name, unless that exists; returns the content that then has this name."""
        key = f"{self._root}/{name}"
        with self._translated_errors():
            kept = self._read(key)
            if kept is None:
                with suppress(FileExistsError):  # another process wrote it first
                    self._s3.pipe_file(key, content, mode="create")
                kept = self._s3.cat_file(key, max_concurrency=1)
        return bytes(kept)

    def prove_writable(self) -> None:
        """Write a few bytes and remove them again; raises StorageUnavailable."""
        with self._translated_errors():
            self._s3.pipe_file(f"{self._root}/probe", b"written by `worker check`")
            self._s3.rm_file(f"{self._root}/probe")

    def free_mib(self) -> float:
        """Infinite, because a bucket has no disk limit. Raises StorageUnavailable when the bucket cannot be reached."""
        with self._translated_errors():
            self._s3.info(self._bucket)
        return math.inf

    def _key(self, kind: str, digest: str) -> str:
        return f"{self._root}/{kind}/{digest[:2]}/{digest}{ENDINGS[kind]}"

    @property
    def _s3(self) -> Any:
        """The connections of this process; a fork needs new ones."""
        if self._connection is None or self._connection[0] != os.getpid():
            import s3fs

            connected = s3fs.S3FileSystem(
                **self._options,
                config_kwargs={"retries": {"mode": "standard", "total_max_attempts": TRIES}},
                skip_instance_cache=True,
                use_listings_cache=False,  # other processes write here too
            )
            self._connection = os.getpid(), connected
        return self._connection[1]

    def _find(self, key: str) -> dict[str, Any] | None:
        """What S3 reports about an object; None when it does not exist."""
        try:
            return dict(self._s3.info(key))
        except FileNotFoundError:
            self._s3.info(self._bucket)
            return None

    def _read(self, key: str) -> bytes | None:
        """The bytes of an object; None when it does not exist."""
        try:
            return bytes(self._s3.cat_file(key, max_concurrency=1))
        except FileNotFoundError:
            self._s3.info(self._bucket)
            return None

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        """The entries below a prefix; empty when the prefix does not exist. Raises StorageUnavailable."""
        with self._translated_errors():
            try:
                return list(self._s3.ls(folder, detail=True))
            except FileNotFoundError:
                self._s3.info(self._bucket)
                return []

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise each error of object store and network as StorageUnavailable with the remedy, or BadSetting."""
        from aiohttp import ClientError
        from botocore.exceptions import BotoCoreError, NoCredentialsError

        try:
            yield
        except FileNotFoundError as error:  # the bucket: a missing object was handled before
            raise self._unavailable(
                f"there is no bucket {self._bucket}: make it, or correct SCREENING_STORE"
            ) from error
        except (PermissionError, NoCredentialsError) as error:
            raise self._unavailable(
                f"access is refused ({error}): check AWS_ACCESS_KEY_ID and the bucket's policy"
            ) from error
        except (OSError, BotoCoreError, ClientError) as error:
            raise self._unavailable(f"it cannot be reached ({error}): is it up, and AWS_ENDPOINT_URL right?") from error
        except ValueError as error:  # botocore's error for a wrong endpoint or region
            raise BadSetting(f"the object store cannot be asked ({error}): correct the AWS_ variables") from error

    def _unavailable(self, fault: str) -> StorageUnavailable:
        return StorageUnavailable(f"the object store cannot be used: {fault}").about(self.name)


def _modified_at(found: dict[str, Any]) -> float:
    """When an object was last written, in seconds since 1970, by the server's clock."""
    return float(found["LastModified"].timestamp())
