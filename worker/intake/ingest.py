"""Take one file in: read it, store its bytes, record it in the ledger. Decides nothing about the study."""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

from schema.database import Database
from schema.setting_values import InboxMode, RasterStudy
from schema.vocabulary import FileState
from worker.decoding.decoder import Decoder
from worker.decoding.pool import DecoderPool
from worker.errors import NotAFile, Rejected, TooLarge, Truncated, Unreadable
from worker.imaging.empty_tail import LOWER_PART_EMPTY
from worker.imaging.instance import Container, Instance
from worker.imaging.limits import Limits
from worker.imaging.raster import STUDY_NAMESPACE, derived_uid
from worker.imaging.reading import read_instance
from worker.intake.corrections import correction_of
from worker.intake.source_file import changed_ns, modified_ns, open_at_once
from worker.ledger import files
from worker.ledger.arrivals import AcceptedCopy, AsRead, Correction, Incoming, Receipt, Registration, stored_path
from worker.ledger.identifiers import IdentifierPolicy
from worker.ledger.register import accepted_copies, register
from worker.settings import Settings
from worker.store import OBJECTS, Store, sums_of
from worker.store.capacity import Capacity
from worker.store.fetch import fetch

#: A file may be this much larger than the largest image: headers, other frames. Larger files are not read.
FILE_SLACK_BYTES = 64 * 2**20

#: Number of files whose pixel digests are remembered, 200 bytes each.
KNOWN_PIXELS_MAX = 50_000

#: Subfolder of the inbox whose studies are STAT.
STAT_FOLDER = "stat"

#: Threads that read, hash and store files of a batch while the ledger is written.
READERS = 2


@dataclass(frozen=True)
class IntakeRequest:
    """A file to take in, with the options of `Intake.take_in`."""

    file: Incoming
    inbox: Path
    is_final: bool
    is_settled: bool


@dataclass(frozen=True)
class ReadFile:
    """A file that was read and not yet recorded in the ledger."""

    request: IntakeRequest
    digest: str = ""  #: SHA-256 of its bytes; empty when they could not be read
    header: Instance | None = None
    crc: int | None = None
    left_at: str | None = None  #: path of the file, when it stays there and the store has no copy
    refusal: Rejected | None = None
    ctime_ns: int = 0  #: when the file last changed, before it was read
    was_missing: bool = False  #: in the store, or stored there with other bytes
    is_gone: bool = False
    keeps_path: bool = False  #: its path names no patient, and is recorded as it is


@dataclass(frozen=True)
class Intake:
    """Takes files into the store and the ledger of one installation."""

    settings: Settings
    database: Database
    store: Store
    decoder: Decoder | DecoderPool = field(default_factory=Decoder, repr=False)
    capacity: Capacity = field(default_factory=Capacity, repr=False)
    known_pixels: dict[str, str] = field(
        default_factory=dict, repr=False
    )  #: digest of a file -> digest of its stored values

    @cached_property
    def identifiers(self) -> IdentifierPolicy:
        """How the ledger stores identifiers of patients."""
        return IdentifierPolicy.of(self.settings)

    def take_in(self, file: Incoming, now: datetime, *, is_final: bool, is_settled: bool, inbox: Path) -> Registration:
        """Take in one file. A file that cannot be read stays WAITING unless `is_final`: then it is QUARANTINED.

        `is_settled`: its study does not wait for more images. `inbox`: the folder it was dropped in. Raises Interrupted
        when the store or the database is not available; the file is then unchanged, and comes again.
        """
        return self.book(self.read(IntakeRequest(file, inbox, is_final, is_settled), now), now)

    def take_in_all(
        self, requests: Iterable[IntakeRequest], clock: Callable[[], datetime]
    ) -> Iterator[tuple[IntakeRequest, Registration]]:
        """Take in many files in their order; the next ones are read meanwhile. Raises as `take_in`.

        A file that was read and not recorded when this ends early is recorded when it comes again.
        """
        ahead: deque[tuple[IntakeRequest, Future[ReadFile]]] = deque()
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="intake")
        try:
            for request in requests:
                ahead.append((request, pool.submit(self.read, request, clock())))
                if len(ahead) > READERS:
                    yield self._book_first(ahead, clock)
            while ahead:
                yield self._book_first(ahead, clock)
        finally:
            pool.shutdown(cancel_futures=True)

    def _book_first(
        self, ahead: "deque[tuple[IntakeRequest, Future[ReadFile]]]", clock: Callable[[], datetime]
    ) -> tuple[IntakeRequest, Registration]:
        request, read = ahead.popleft()
        return request, self.book(read.result(), clock())

    def read(self, request: IntakeRequest, now: datetime) -> ReadFile:
        """Read a file, and store it if it can be accepted or if it is final. Does not write the ledger; thread-safe."""
        file, path = request.file, Path(request.file.path)
        try:
            ctime_ns = changed_ns(path)
            content = self._read(path, file)
        except FileNotFoundError:
            return ReadFile(request, is_gone=True)
        except Rejected as error:
            return ReadFile(request, left_at=file.path, refusal=error)
        digest, crc = sums_of(content)
        try:
            header = read_instance(content, self.limits)
        except Rejected as error:
            left_at, was_missing = self._store(file, content, digest, now) if request.is_final else (None, False)
            return ReadFile(request, digest, None, crc, left_at, error, ctime_ns, was_missing)
        if LOWER_PART_EMPTY in header.notes and not request.is_final:
            stalled = Truncated("the lower part of its picture is zeros: it is still being copied, or its copy stalled")
            return ReadFile(request, digest, refusal=stalled)
        is_loose = _is_loose(path.parent, request.inbox)
        is_in_folder = not is_loose and self.settings.raster_study is RasterStudy.FOLDER
        if header.container is Container.RASTER and is_in_folder:
            header = replace(header, study_uid=derived_uid(STUDY_NAMESPACE, self.identifiers.path(str(path.parent))))
        left_at, was_missing = self._store(file, content, digest, now)
        return ReadFile(request, digest, header, crc, left_at, None, ctime_ns, was_missing)

    def book(self, read: ReadFile, now: datetime) -> Registration:
        """Record a file that was read."""
        booked = self._book(read, now)
        return replace(booked, as_read=AsRead(read.digest, read.ctime_ns)) if read.digest else booked

    def _book(self, read: ReadFile, now: datetime) -> Registration:
        file = self._file(read)
        if read.is_gone:
            return files.record_vanished_file(self.database, file, now)
        if read.refusal is not None:
            return self._refuse(read, read.refusal, now)
        assert read.header is not None
        copies = [c for c in accepted_copies(self.database, read.header, read.digest) if not c.is_unreadable]
        own = AcceptedCopy(read.digest, read.left_at, False, LOWER_PART_EMPTY in read.header.notes)
        is_known = any(self._continues(copy, own) for copy in copies)
        same_pixels_as = self._same_pixels(copies, read.digest, read.left_at)
        correction = self._correction([copy for copy in copies if copy.digest in same_pixels_as], own)
        receipt = Receipt(
            file, self.identifiers.header(read.header), read.digest, crc=read.crc,
            same_pixels_as=same_pixels_as, correction=correction,
            completes=frozenset(copy.digest for copy in copies if self._continues(own, copy)),
            unreadable=Truncated.code if is_known else None,
            message="its lower part is empty, and the whole image was received before" if is_known else "",
            left_at=read.left_at, is_settled=read.request.is_settled, was_missing=read.was_missing,
        )  # fmt: skip
        return register(self.database, receipt, self.settings, now)

    def _file(self, read: ReadFile) -> Incoming:
        """The file as the ledger spells it."""
        return read.request.file if read.keeps_path else self.identifiers.file(read.request.file)

    def _continues(self, whole: AcceptedCopy, stalled: AcceptedCopy) -> bool:
        """Whether one file has what the other has before its zeros, and is not stalled itself."""
        if whole.is_stalled or not stalled.is_stalled:
            return False
        try:
            held, begun = (fetch(self.store, copy.digest, copy.left_at) for copy in (whole, stalled))
        except Rejected:
            return False
        return len(held) == len(begun) and held.startswith(begun.rstrip(b"\0"))

    @property
    def limits(self) -> Limits:
        return Limits(max_pixel_bytes=self.settings.max_pixel_mib * 2**20)

    def _read(self, path: Path, file: Incoming) -> bytes:
        """The whole file; raises FileNotFoundError or Rejected."""
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise NotAFile("not a regular file (a pipe, a device, a link to a folder): drop plain files")
            if file.size_bytes > self.limits.max_pixel_bytes + FILE_SLACK_BYTES:
                raise TooLarge(f"{file.size_bytes / 2**20:,.0f} MiB: raise SCREENING_MAX_PIXEL_MIB to take it in")
            with open(path, "rb", opener=open_at_once) as source:
                content = source.read(file.size_bytes + 1) or b""  # a growing file is not read to its end
                after = os.fstat(source.fileno())
        except FileNotFoundError:
            if path.is_symlink():
                raise Unreadable("a link to nothing: drop the file itself") from None
            raise
        except OSError as error:
            raise Unreadable(f"the file cannot be read ({error.strerror}): check its permissions") from error
        if (after.st_size, modified_ns(after), len(content)) != (file.size_bytes, file.mtime_ns, file.size_bytes):
            raise Truncated("the file changed while it was read: it is still being written")
        return content

    def _store(self, file: Incoming, content: bytes, digest: str, now: datetime) -> tuple[str | None, bool]:
        """Store the bytes: (None, whether the store had none or others under this digest).

        In mode `leave`: (their path, False), if the database can store the name and the store does not hold them.
        """
        is_left = self.settings.inbox_mode is InboxMode.LEAVE and stored_path(file.path) == file.path
        if is_left and not self.store.has(OBJECTS, digest):
            return file.path, False
        self.capacity.require(self.settings, self.store, now)
        kept = self.store.keep(OBJECTS, content, digest)
        self.capacity.add(0 if kept.is_proved else len(content))
        return None, not kept.is_proved

    def _refuse(self, read: ReadFile, error: Rejected, now: datetime) -> Registration:
        """Wait for the rest of the file, or quarantine it, for its study when the header names one."""
        file, digest, left_at = self._file(read), read.digest, read.left_at
        if not read.request.is_final:
            files.wait(self.database, [file], now)
            return Registration(FileState.WAITING, None, error.message)
        header = error.instance
        if isinstance(header, Instance) and digest:
            header = self.identifiers.header(header)
            receipt = Receipt(
                file, header, digest, unreadable=error.code, message=error.message, left_at=left_at, is_settled=True,
                was_missing=read.was_missing,
            )  # fmt: skip
            return register(self.database, receipt, self.settings, now)
        return files.quarantine(
            self.database, file, error.code, error.message, digest or None, now, in_store=left_at is None
        )

    def _same_pixels(self, copies: list[AcceptedCopy], digest: str, left_at: str | None) -> frozenset[str]:
        """The digests of files accepted under this UID with other bytes and the same pixels."""
        if not copies:
            return frozenset()
        try:
            pixels = self._pixels_of(digest, left_at)
        except Rejected:
            return frozenset()  # not decodable, so it counts as other pixels
        same = (copy for copy in copies if self._pixels_of_copy(copy) == pixels)
        return frozenset(copy.digest for copy in same if self._is_held(copy))

    def _correction(self, same: list[AcceptedCopy], own: AcceptedCopy) -> Correction | None:
        """How a file corrects the copy that counts of those with the same pixels."""
        if not same:
            return None
        copy, later = (fetch(self.store, each.digest, each.left_at) for each in (same[0], own))
        return correction_of(copy, same[0].digest, later, self.decoder, self.limits)

    def _is_held(self, copy: AcceptedCopy) -> bool:
        """Whether the bytes of a copy still exist: its pixels may be known from an earlier decode."""
        try:
            fetch(self.store, copy.digest, copy.left_at)
        except Rejected:
            return False
        return True

    def _pixels_of_copy(self, copy: AcceptedCopy) -> str | None:
        try:
            return self._pixels_of(copy.digest, copy.left_at)
        except Rejected:
            return None

    def _pixels_of(self, digest: str, left_at: str | None) -> str:
        """Digest of a file's stored values; each file is decoded once, as some stations give all images one UID."""
        if digest not in self.known_pixels:
            if len(self.known_pixels) >= KNOWN_PIXELS_MAX:
                self.known_pixels.clear()
            self.known_pixels[digest] = self.decoder.stored_digest(fetch(self.store, digest, left_at), self.limits)
        return self.known_pixels[digest]


def is_stat_folder(name: str) -> bool:
    """Whether the studies in a folder of this name are STAT. Case does not count: on many shares it means nothing."""
    return name.casefold() == STAT_FOLDER


def _is_loose(folder: Path, inbox: Path) -> bool:
    """Whether files in the folder lie side by side, and may be of several patients."""
    return folder == inbox or (folder.parent == inbox and is_stat_folder(folder.name))
