"""Takes one file in: read it whole, keep its bytes, book it. Decides nothing about the study."""

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
from schema.vocabulary import FileState
from worker.decoding.decoder import Decoder
from worker.decoding.pool import Decoders
from worker.errors import NotAFile, Rejected, TooLarge, Truncated, Unreadable
from worker.imaging.instance import Container, Instance
from worker.imaging.limits import Limits
from worker.imaging.raster import STUDY_NAMESPACE, derived_uid
from worker.imaging.reading import read_instance
from worker.ledger import register as ledger
from worker.ledger.arrivals import AcceptedCopy, Incoming, Receipt, Registration, stored_path
from worker.ledger.identifiers import IdentifierPolicy
from worker.settings import InboxMode, RasterStudy, Settings
from worker.store import OBJECTS, Store, sums_of
from worker.store.capacity import Capacity
from worker.store.fetch import fetch

#: A file may be this much larger than the largest image before it is even read: headers, other frames.
FILE_SLACK_BYTES = 64 * 2**20

#: How many files' pixel digests are remembered, 200 bytes each.
MOST_KNOWN_PIXELS = 50_000

#: The last moment that fits 64 bits of nanoseconds: 11 April 2262.
LATEST_NS = 2**63 - 1

#: Subfolder of the inbox whose studies are STAT.
STAT_FOLDER = "stat"

#: Files of a batch that are read, hashed and stored at once: the disk is waited for while the ledger is written.
READERS = 2


@dataclass(frozen=True)
class Order:
    """A file to take in, and how `Intake.take_in` has to treat it."""

    file: Incoming
    inbox: Path
    is_final: bool
    is_settled: bool


@dataclass(frozen=True)
class Kept:
    """What was read of a file, before it is booked."""

    order: Order
    digest: str = ""  #: of its bytes; empty when they could not be read
    header: Instance | None = None
    crc: int | None = None
    left_at: str | None = None  #: the file stays there and the store holds no copy
    refusal: Rejected | None = None
    is_gone: bool = False


@dataclass(frozen=True)
class Intake:
    """The counter where files come in."""

    settings: Settings
    database: Database
    store: Store
    decoder: Decoder | Decoders = field(default_factory=Decoder, repr=False)
    capacity: Capacity = field(default_factory=Capacity, repr=False)
    known_pixels: dict[str, str] = field(default_factory=dict, repr=False)  #: digest of a file -> of its stored values

    @cached_property
    def identifiers(self) -> IdentifierPolicy:
        """How the ledger keeps what identifies a patient."""
        return IdentifierPolicy.of(self.settings)

    def take_in(self, file: Incoming, now: datetime, *, is_final: bool, is_settled: bool, inbox: Path) -> Registration:
        """Book one file. A file that cannot be read stays WAITING unless `is_final`: then it is QUARANTINED.

        `is_settled`: its study need not wait for more images. `inbox`: the folder it was dropped in. Raises Interrupted
        when the store or the database is away; the file is then as it was, and comes again.
        """
        return self.book(self.keep(Order(file, inbox, is_final, is_settled), now), now)

    def take_in_all(
        self, orders: Iterable[Order], clock: Callable[[], datetime]
    ) -> Iterator[tuple[Order, Registration]]:
        """Book many files in their order; the next ones are read, hashed and stored meanwhile. Raises as `take_in`.

        What was kept and not booked when it ends early is booked when the file comes again.
        """
        ahead: deque[tuple[Order, Future[Kept]]] = deque()
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="intake")
        try:
            for order in orders:
                ahead.append((order, pool.submit(self.keep, order, clock())))
                if len(ahead) > READERS:
                    yield self._book_first(ahead, clock)
            while ahead:
                yield self._book_first(ahead, clock)
        finally:
            pool.shutdown(cancel_futures=True)

    def _book_first(
        self, ahead: "deque[tuple[Order, Future[Kept]]]", clock: Callable[[], datetime]
    ) -> tuple[Order, Registration]:
        order, kept = ahead.popleft()
        return order, self.book(kept.result(), clock())

    def keep(self, order: Order, now: datetime) -> Kept:
        """Read a file, and bring it to the store if it can be accepted, or never. Books nothing; safe in any thread."""
        file, path = order.file, Path(order.file.path)
        try:
            content = self._read(path, file)
        except FileNotFoundError:
            return Kept(order, is_gone=True)
        except Rejected as error:
            return Kept(order, left_at=file.path, refusal=error)
        digest, crc = sums_of(content)
        try:
            header = read_instance(content, self._limits)
        except Rejected as error:
            left_at = self._store(file, content, digest, now) if order.is_final else None
            return Kept(order, digest, left_at=left_at, refusal=error)
        is_loose = path.parent in (order.inbox, order.inbox / STAT_FOLDER)  # files of many patients, side by side
        is_in_folder = not is_loose and self.settings.raster_study is RasterStudy.FOLDER
        if header.container is Container.RASTER and is_in_folder:
            header = replace(header, study_uid=derived_uid(STUDY_NAMESPACE, self.identifiers.path(str(path.parent))))
        return Kept(order, digest, header, crc, self._store(file, content, digest, now))

    def book(self, kept: Kept, now: datetime) -> Registration:
        """Book what was kept of a file."""
        file = self.identifiers.file(kept.order.file)
        if kept.is_gone:
            return ledger.record_vanished_file(self.database, file, now)
        if kept.refusal is not None:
            return self._refuse(kept, kept.refusal, now)
        assert kept.header is not None
        copy = self._same_pixels(kept.header, kept.digest, kept.left_at)
        receipt = Receipt(
            file,
            self.identifiers.header(kept.header),
            kept.digest,
            crc=kept.crc,
            same_pixels_as=copy,
            left_at=kept.left_at,
            is_settled=kept.order.is_settled,
        )
        return ledger.register(self.database, receipt, self.settings, now)

    @property
    def _limits(self) -> Limits:
        return Limits(max_pixel_bytes=self.settings.max_pixel_mib * 2**20)

    def _read(self, path: Path, file: Incoming) -> bytes:
        """The whole file; raises FileNotFoundError or Rejected."""
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise NotAFile("it is no regular file (a pipe, a device, a link to a folder): drop plain files")
            if file.size_bytes > self._limits.max_pixel_bytes + FILE_SLACK_BYTES:
                raise TooLarge(f"{file.size_bytes / 2**20:,.0f} MiB: raise SCREENING_MAX_PIXEL_MIB to take it in")
            with open(path, "rb", opener=_open_at_once) as source:
                content = source.read(file.size_bytes + 1) or b""  # one that grows is not followed
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

    def _store(self, file: Incoming, content: bytes, digest: str, now: datetime) -> str | None:
        """Bring the bytes to the store; in mode `leave` only note where they lie, if the database can keep the name."""
        if self.settings.inbox_mode is InboxMode.LEAVE and stored_path(file.path) == file.path:
            return file.path
        self.capacity.require(self.settings, self.store, now)
        self.store.put(OBJECTS, content, digest)
        self.capacity.add(len(content))
        return None

    def _refuse(self, kept: Kept, error: Rejected, now: datetime) -> Registration:
        """Wait for the rest of the file, or quarantine it: on its study when its header names one."""
        file, digest, left_at = self.identifiers.file(kept.order.file), kept.digest, kept.left_at
        if not kept.order.is_final:
            ledger.wait(self.database, [file], now)
            return Registration(FileState.WAITING, None, error.message)
        header = error.instance
        if isinstance(header, Instance) and digest:
            header = self.identifiers.header(header)
            receipt = Receipt(
                file, header, digest, unreadable=error.code, message=error.message, left_at=left_at, is_settled=True
            )
            return ledger.register(self.database, receipt, self.settings, now)
        return ledger.quarantine(
            self.database, file, error.code, error.message, digest or None, now, in_store=left_at is None
        )

    def _same_pixels(self, header: Instance, digest: str, left_at: str | None) -> str | None:
        """The digest of a file accepted under this UID whose bytes differ and whose pixels do not, if there is one."""
        copies = [t for t in ledger.accepted_copies(self.database, header, digest) if not t.is_unreadable]
        if not copies:
            return None
        try:
            pixels = self._pixels_of(digest, left_at)
        except Rejected:
            return None  # it cannot be shown to be the same, so it counts as other pixels
        return next((copy.digest for copy in copies if self._pixels_of_copy(copy) == pixels), None)

    def _pixels_of_copy(self, copy: AcceptedCopy) -> str | None:
        try:
            return self._pixels_of(copy.digest, copy.left_at)
        except Rejected:
            return None

    def _pixels_of(self, digest: str, left_at: str | None) -> str:
        """Digest of a file's stored values; each file is decoded once, for some stations give every image one UID."""
        if digest not in self.known_pixels:
            if len(self.known_pixels) >= MOST_KNOWN_PIXELS:
                self.known_pixels.clear()
            self.known_pixels[digest] = self.decoder.stored_digest(fetch(self.store, digest, left_at), self._limits)
        return self.known_pixels[digest]


def modified_ns(status: os.stat_result) -> int:
    """When a file was last modified, in the 64 bits that databases have: a clock gone wrong writes the year 2400."""
    return max(-LATEST_NS, min(status.st_mtime_ns, LATEST_NS))


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for a writer: a FIFO may have taken the file's place."""
    return os.open(path, flags | os.O_NONBLOCK)
