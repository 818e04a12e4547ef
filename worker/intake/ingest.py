"""Takes files in: reads each, stores its bytes, records it in the ledger. Decides nothing about the study."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path

from schema.database import Database
from schema.setting_values import InboxMode
from schema.vocabulary import FileState
from worker.decoding.decoder import Decoder
from worker.decoding.pool import DecoderPool
from worker.errors import CopyUnseen, Rejected, ScreeningError, Truncated
from worker.imaging.instance import Instance
from worker.imaging.limits import Limits
from worker.imaging.stored_values.stalled_copy import LOWER_PART_EMPTY
from worker.intake.copy_comparison import CopyComparison
from worker.intake.held_file import AtStep, HeldFile, no_step
from worker.intake.read_ahead import ReadAhead
from worker.intake.reader import IntakeRequest, Reader, ReadFile
from worker.intake.writers_watch import watching_writers
from worker.ledger.identifiers import IdentifierPolicy
from worker.ledger.intake import files
from worker.ledger.intake.arrivals import AcceptedCopy, AsRead, Incoming, Receipt, Registration
from worker.ledger.intake.register import accepted_copies, known_otherwise, register, register_all
from worker.ledger.transactions import Guard, together
from worker.runtime.boundary import result_or_error
from worker.settings import Settings
from worker.store import Store
from worker.store.capacity import Capacity

#: Threads that read, hash and store files of a batch while the ledger is written.
READERS = 2


@dataclass(frozen=True)
class TakenIn:
    """A file that was booked, or that was `refused` by the database or a bug: it waits."""

    request: IntakeRequest
    booked: Registration
    held: HeldFile | None = None  #: to be removed or abandoned; None where the system does not hold it against writers
    refused: Exception | None = None


@dataclass(frozen=True)
class Intake:
    """Takes files into the store and the ledger of one installation."""

    settings: Settings
    database: Database
    store: Store
    decoder: Decoder | DecoderPool = field(default_factory=Decoder, repr=False)
    capacity: Capacity = field(default_factory=Capacity, repr=False)
    #: Digest of a file -> digest of its stored values.
    known_pixels: dict[str, str] = field(default_factory=dict, repr=False)
    at_step: AtStep = no_step
    guard: Guard | None = None  #: called in each transaction that books a file
    #: Raises StorageUnavailable when a file may be absent only because its share is not mounted.
    prove_gone: Callable[[str], None] = lambda _: None

    @cached_property
    def reader(self) -> Reader:
        """Reads and stores files."""
        return Reader(self.settings, self.store, self.capacity, self.identifiers, self.at_step)

    @cached_property
    def comparison(self) -> CopyComparison:
        """Compares a file with the copies of its image."""
        return CopyComparison(self.store, self.decoder, self.limits, self.known_pixels)

    @cached_property
    def identifiers(self) -> IdentifierPolicy:
        """How the ledger stores identifiers of patients."""
        return IdentifierPolicy.of(self.settings)

    def prove_can_take_in(self, now: datetime) -> None:
        """Raise StorageUnavailable when nothing can be stored; in mode `leave` nothing need be."""
        if self.settings.inbox_mode is not InboxMode.LEAVE:
            self.capacity.require(self.settings, self.store, now)
            self.store.prove_writable()

    def take_in(self, file: Incoming, now: datetime, *, is_final: bool, is_settled: bool, inbox: Path) -> Registration:
        """Take in one file. A file that cannot be read stays WAITING unless `is_final`: then it is QUARANTINED.

        `is_settled`: its study does not wait for more images. `inbox`: the folder it was dropped in. Raises Interrupted
        when the store or the database is not available; the file is then unchanged, and comes again.
        """
        return self.book(self.reader.read(IntakeRequest(file, inbox, is_final, is_settled), now), now)

    def take_in_all(self, requests: Iterable[IntakeRequest], clock: Callable[[], datetime]) -> Iterator[TakenIn]:
        """Take in many files in their order; the next ones are read meanwhile. Raises as `take_in`.

        A file that meets a bug is left WAITING, as `refused`. A file that was read but not recorded, because this ended
        early, stays in the inbox and is recorded when it is listed again.
        """
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="intake")
        ahead = ReadAhead(lambda request: pool.submit(self._read, request, clock()), READERS)
        try:
            for group in ahead.groups(requests):
                yield from self._take_in_group(group, clock())
        finally:
            pool.shutdown(cancel_futures=True)
            for future in ahead.reading:
                if not future.cancelled() and future.exception() is None:
                    _abandon(future.result())

    def _read(self, request: IntakeRequest, now: datetime) -> ReadFile:
        """A file as it was read, or the bug that it met."""
        read = result_or_error(lambda: self.reader.read(request, now))
        if isinstance(read, ScreeningError):
            raise read
        return ReadFile(request, bug=read) if isinstance(read, Exception) else read

    def _take_in_group(self, group: Sequence[ReadFile], now: datetime) -> Iterator[TakenIn]:
        """Book files: those with unknown images first and in one transaction. The refused ones are given last."""
        group = [_as_stored(read) for read in group]
        left = {id(read): read for read in group}
        refused: list[tuple[ReadFile, Exception]] = []
        try:
            with watching_writers(read.held for read in group) as watch:
                for read, booked in self._book_all(group, now):
                    if isinstance(booked, Exception):
                        refused.append((read, booked))
                        continue
                    del left[id(read)]
                    watch.let_go(read.held)
                    yield TakenIn(read.request, booked, read.held)
        finally:
            for read in left.values():
                _abandon(read)
        for read, refusal in refused:
            if isinstance(refusal, ScreeningError):
                raise refusal
            booked = Registration(FileState.WAITING, None, "it could not be booked: the log says why")
            yield TakenIn(read.request, booked, refused=refusal)

    def _book_all(
        self, group: Sequence[ReadFile], now: datetime
    ) -> Iterator[tuple[ReadFile, Registration | Exception]]:
        """What each file is booked as, or its error. Ends early when the database or the store is away."""
        new = self._unknown(group)
        ended = set[int]()
        for read, outcome in zip(new, together(partial(self._book_new, now), new), strict=True):
            # another process has just booked the same image: below this file is booked by itself, and compared
            if not isinstance(outcome, CopyUnseen):
                ended.add(id(read))
                yield read, outcome
        for read in group:
            if read.bug is not None:
                yield read, read.bug
            elif id(read) not in ended:
                booked = result_or_error(partial(self.book, read, now))
                yield read, booked
                if isinstance(booked, ScreeningError):
                    return

    def _book_new(self, now: datetime, reads: Sequence[ReadFile]) -> list[Registration | Exception]:
        """Record files of unknown images."""
        receipts = [self._receipt(read, []) for read in reads]
        found = register_all(self.database, receipts, self.settings, now, self.guard)
        return [
            booked if isinstance(booked, Exception) else _as_read(booked, read)
            for read, booked in zip(reads, found, strict=True)
        ]

    def _unknown(self, group: Sequence[ReadFile]) -> list[ReadFile]:
        """The files with images of which no other bytes are known, if there are several."""
        by_uid = defaultdict[str, list[ReadFile]](list)
        for read in group:
            if read.header is not None and read.refusal is None:
                by_uid[read.header.sop_instance_uid].append(read)
        single = {uid: reads[0] for uid, reads in by_uid.items() if len(reads) == 1}
        if len(single) < 2:
            return []
        known = known_otherwise(self.database, {uid: read.digest for uid, read in single.items()})
        return [read for uid, read in single.items() if uid not in known]

    def book(self, read: ReadFile, now: datetime) -> Registration:
        """Record a file that was read."""
        return _as_read(self._book(read, now), read)

    def _book(self, read: ReadFile, now: datetime) -> Registration:
        file = self._file(read)
        if read.is_gone:
            self.prove_gone(read.request.file.path)
            return files.record_vanished_file(self.database, file, now, self.guard)
        if read.refusal is not None:
            return self._refuse(read, read.refusal, now)
        try:
            return self._register(read, now)
        except CopyUnseen:  # another process accepted a copy meanwhile: this file is compared with that too
            return self._register(read, now)

    def _register(self, read: ReadFile, now: datetime) -> Registration:
        """Compare a file with the copies of its image, and record it. Raises CopyUnseen when one came meanwhile."""
        assert read.header is not None
        copies = [c for c in accepted_copies(self.database, read.header, read.digest) if not c.is_unreadable]
        return register(self.database, self._receipt(read, copies), self.settings, now, self.guard)

    def _receipt(self, read: ReadFile, copies: list[AcceptedCopy]) -> Receipt:
        """What is registered of a file with a header, whose readable `copies` hold other bytes."""
        assert read.header is not None
        own = AcceptedCopy(read.digest, read.left_at, False, LOWER_PART_EMPTY in read.header.notes)
        is_known = any(self.comparison.is_whole_of(copy, own) for copy in copies)
        same = self.comparison.with_same_pixels(copies, own)
        return Receipt(
            self._file(read), self.identifiers.header(read.header), read.digest, crc=read.crc,
            compared=frozenset(copy.digest for copy in copies), same_pixels_as=frozenset(copy.digest for copy in same),
            correction=self.comparison.correction(same, own),
            completes=frozenset(copy.digest for copy in copies if self.comparison.is_whole_of(own, copy)),
            unreadable=Truncated.code if is_known else None,
            message="its lower part is empty, and the whole image was received before" if is_known else "",
            left_at=read.left_at, is_settled=read.request.is_settled, was_missing=read.was_missing,
        )  # fmt: skip

    def _file(self, read: ReadFile) -> Incoming:
        """The file as the ledger spells it."""
        return read.request.file if read.keeps_path else self.identifiers.file(read.request.file)

    @property
    def limits(self) -> Limits:
        """The largest image that is read."""
        return self.reader.limits

    def _refuse(self, read: ReadFile, error: Rejected, now: datetime) -> Registration:
        """Wait for the rest of the file, or quarantine it, for its study when the header names one."""
        file, digest, left_at = self._file(read), read.digest, read.left_at
        if not read.request.is_final:
            files.wait(self.database, [file], now, self.guard)
            return Registration(FileState.WAITING, None, error.message)
        header = error.instance
        if isinstance(header, Instance) and digest:
            header = self.identifiers.header(header)
            receipt = Receipt(
                file, header, digest, unreadable=error.code, message=error.message, left_at=left_at, is_settled=True,
                was_missing=read.was_missing,
            )  # fmt: skip
            return register(self.database, receipt, self.settings, now, self.guard)
        return files.quarantine(
            self.database, file, error.code, error.message, digest or None, now, in_store=left_at is None,
            guard=self.guard,
        )  # fmt: skip


def _as_stored(read: ReadFile) -> ReadFile:
    """The file as read; refused if somebody has written to it since, and so into the store."""
    if read.held is None or read.held.stays_as_read():
        return read
    refusal = Truncated("the file changed after it was read: it is still being written")
    return ReadFile(read.request, left_at=read.request.file.path, refusal=refusal)


def _abandon(read: ReadFile) -> None:
    """Leave a file that is not booked in the inbox."""
    if read.held is not None:
        read.held.abandon()


def _as_read(booked: Registration, read: ReadFile) -> Registration:
    """A registration with the digest and the ctime of the bytes that were read."""
    return replace(booked, as_read=AsRead(read.digest, read.ctime_ns)) if read.digest else booked
