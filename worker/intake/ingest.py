"""Take one file in: read it, store its bytes, record it in the ledger. Decides nothing about the study."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

from schema.database import Database
from schema.vocabulary import FileState
from worker.decoding.decoder import Decoder
from worker.decoding.pool import DecoderPool
from worker.errors import Rejected, Truncated
from worker.imaging.empty_tail import LOWER_PART_EMPTY
from worker.imaging.instance import Instance
from worker.imaging.limits import Limits
from worker.intake.corrections import correction_of
from worker.intake.held_file import AtStep, HeldFile, no_step
from worker.intake.reader import IntakeRequest, Reader, ReadFile
from worker.ledger import files
from worker.ledger.arrivals import AcceptedCopy, AsRead, Correction, Incoming, Receipt, Registration
from worker.ledger.identifiers import IdentifierPolicy
from worker.ledger.register import accepted_copies, register
from worker.settings import Settings
from worker.store import Store
from worker.store.capacity import Capacity
from worker.store.fetch import fetch

#: Number of files whose pixel digests are remembered, 200 bytes each.
KNOWN_PIXELS_MAX = 50_000

#: Threads that read, hash and store files of a batch while the ledger is written.
READERS = 2


@dataclass(frozen=True)
class TakenIn:
    """A file that was booked."""

    request: IntakeRequest
    booked: Registration
    held: HeldFile | None = None  #: to be removed or abandoned; None where the system does not hold it against writers


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
    at_step: AtStep = no_step

    @cached_property
    def reader(self) -> Reader:
        """Reads and stores files."""
        return Reader(self.settings, self.store, self.capacity, self.identifiers, self.at_step)

    @cached_property
    def identifiers(self) -> IdentifierPolicy:
        """How the ledger stores identifiers of patients."""
        return IdentifierPolicy.of(self.settings)

    def take_in(self, file: Incoming, now: datetime, *, is_final: bool, is_settled: bool, inbox: Path) -> Registration:
        """Take in one file. A file that cannot be read stays WAITING unless `is_final`: then it is QUARANTINED.

        `is_settled`: its study does not wait for more images. `inbox`: the folder it was dropped in. Raises Interrupted
        when the store or the database is not available; the file is then unchanged, and comes again.
        """
        return self.book(self.reader.read(IntakeRequest(file, inbox, is_final, is_settled), now), now)

    def take_in_all(self, requests: Iterable[IntakeRequest], clock: Callable[[], datetime]) -> Iterator[TakenIn]:
        """Take in many files in their order; the next ones are read meanwhile. Raises as `take_in`.

        A file that was read and not recorded when this ends early is recorded when it comes again.
        """
        ahead: deque[Future[ReadFile]] = deque()
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="intake")
        try:
            for request in requests:
                ahead.append(pool.submit(self.reader.read, request, clock()))
                if len(ahead) > READERS:
                    yield self._take_in_read(ahead.popleft().result(), clock())
            while ahead:
                yield self._take_in_read(ahead.popleft().result(), clock())
        finally:
            pool.shutdown(cancel_futures=True)
            for read in ahead:
                if not read.cancelled() and read.exception() is None and (held := read.result().held) is not None:
                    held.abandon()

    def _take_in_read(self, read: ReadFile, now: datetime) -> TakenIn:
        with ExitStack() as stack:
            if read.held is not None:
                stack.callback(read.held.abandon)
            booked = self.book(read, now)
            stack.pop_all()
        return TakenIn(read.request, booked, read.held)

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
        """The largest image that is read."""
        return self.reader.limits

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
