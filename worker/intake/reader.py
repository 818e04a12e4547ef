"""Read one file and store its bytes while they are read. Knows no ledger, and decides nothing about the study."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from schema.setting_values import InboxMode, RasterStudy, StoreLink
from worker.errors import Rejected, TooLarge, Truncated
from worker.imaging.instance import Container, Instance
from worker.imaging.limits import Limits
from worker.imaging.raster import STUDY_NAMESPACE, derived_uid
from worker.imaging.stored_values.stalled_copy import LOWER_PART_EMPTY
from worker.intake.held_file import AtStep, HeldFile, Step, no_step
from worker.intake.source_file import SourceFile, modified_ns
from worker.ledger.identifiers import IdentifierPolicy
from worker.ledger.intake.arrivals import Incoming, stored_path
from worker.settings import Settings
from worker.store import OBJECTS, Kept, Links, Store, Sums
from worker.store.capacity import Capacity
from worker.store.draft import Draft

#: A file may be this much larger than the largest image: headers, other frames. Larger files are not read.
FILE_SLACK_BYTES = 64 * 2**20

#: Subfolder of the inbox whose studies are STAT.
STAT_FOLDER = "stat"


@dataclass(frozen=True)
class IntakeRequest:
    """A file to take in, with the options of `Intake.take_in`."""

    file: Incoming
    inbox: Path
    is_final: bool
    is_settled: bool
    is_ours: bool = False  #: it leaves the inbox once it is booked: `TakenIn.held` is for whoever removes it


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
    held: HeldFile | None = None  #: to be removed or abandoned
    bug: Exception | None = None  #: met while it was read; nothing else is known then


@dataclass(frozen=True)
class StoredFile:
    """What became of the bytes of a file."""

    digest: str
    crc: int
    left_at: str | None = None
    was_missing: bool = False
    links: Links | None = None  #: when the stored file is the source itself


@dataclass(frozen=True)
class Reader:
    """Reads and stores the files of one installation. Thread-safe."""

    settings: Settings
    store: Store
    capacity: Capacity
    identifiers: IdentifierPolicy
    at_step: AtStep = no_step

    @property
    def limits(self) -> Limits:
        """The largest image that is read."""
        return Limits(max_pixel_bytes=self.settings.max_pixel_bytes)

    def read(self, request: IntakeRequest, now: datetime) -> ReadFile:
        """Read a file, and store it if it can be accepted or if it is final. Does not write the ledger; thread-safe."""
        file = request.file
        with ExitStack() as stack:
            try:
                source = self._open(file)
                stack.callback(source.close)
                if request.is_ours:
                    source.hold()
                read = self._read(source, request, now)
            except FileNotFoundError:
                return ReadFile(request, is_gone=True)
            except Rejected as error:
                return ReadFile(request, left_at=file.path, refusal=error)
            if read.held is not None:
                stack.pop_all()  # its lease goes on
            return read

    def _open(self, file: Incoming) -> SourceFile:
        """Open a file; raises FileNotFoundError or Rejected."""
        if file.size_bytes > self.limits.max_pixel_bytes + FILE_SLACK_BYTES:
            SourceFile.opened(file.path).close()
            raise TooLarge(f"{file.size_bytes / 2**20:,.0f} MiB: raise SCREENING_MAX_PIXEL_MIB to take it in")
        source = SourceFile.opened(file.path)
        if (source.status.st_size, modified_ns(source.status)) != (file.size_bytes, file.mtime_ns):
            source.close()
            raise Truncated("the file changed while it was read: it is still being written")
        return source

    def _read(self, source: SourceFile, request: IntakeRequest, now: datetime) -> ReadFile:
        """Read the header, then read and store the bytes unless the file is refused for now. Raises Rejected."""
        header, refusal = self._header(source, request)
        if refusal is not None and not request.is_final:
            return ReadFile(request, refusal=refusal)
        stored = self._store(source, now)
        held = None
        if source.has_lease and stored.left_at is None:
            held = HeldFile(source, stored.digest, stored.links, self.at_step)
        return ReadFile(
            request, stored.digest, header, stored.crc, stored.left_at, refusal, source.status.st_ctime_ns,
            stored.was_missing, held=held,
        )  # fmt: skip

    def _header(self, source: SourceFile, request: IntakeRequest) -> tuple[Instance | None, Rejected | None]:
        """The header, or why the file cannot be accepted, perhaps not yet."""
        try:
            header = source.header(self.limits)
        except Rejected as error:
            return None, error
        if LOWER_PART_EMPTY in header.notes and not request.is_final:
            words = "the lower part of its picture is zeros: it is still being copied, or its copy stalled"
            return None, Truncated(words)
        folder = Path(request.file.path).parent
        is_in_folder = self.settings.raster_study is RasterStudy.FOLDER and not _is_loose(folder, request.inbox)
        if header.container is Container.RASTER and is_in_folder:
            header = replace(header, study_uid=derived_uid(STUDY_NAMESPACE, self.identifiers.path(str(folder))))
        return header, None

    def _store(self, source: SourceFile, now: datetime) -> StoredFile:
        """Read the bytes, and store them while that is done.

        In mode `leave` they stay, if the database can store the name and the store does not hold them. Raises Rejected.
        """
        is_left = self.settings.inbox_mode is InboxMode.LEAVE and stored_path(source.path) == source.path
        links = self._links(source)
        sums = Sums()
        if is_left or links is not None:
            for piece in source.pieces():
                sums.add(piece)
            self.at_step(Step.READ)
        if is_left and not self.store.has(OBJECTS, sums.digest):
            return StoredFile(sums.digest, sums.crc, left_at=source.path)
        self.capacity.require(self.settings, self.store, now)
        kept = None
        if links is not None:
            kept = links.take(source.descriptor, sums.digest, lambda: self.at_step(Step.LINKED))
        if kept is None:
            kept, sums = self._copy(source)
        self.at_step(Step.STORED)
        self.capacity.add(0 if kept.is_proved else source.status.st_size)
        return StoredFile(sums.digest, sums.crc, None, not kept.is_proved, links if kept.is_linked else None)

    def _links(self, source: SourceFile) -> Links | None:
        """What links the file into the store, if it may be linked."""
        if not source.has_lease or self.settings.store_link is not StoreLink.AUTO:
            return None
        links = self.store.links(OBJECTS)
        if links is None or links.refusal(source.descriptor) is not None:
            return None
        return links

    def _copy(self, source: SourceFile) -> tuple[Kept, Sums]:
        """Write the bytes into the store as they are read."""
        path = self.store.draft(OBJECTS)
        if path is None:
            sums = Sums()
            content = source.whole
            for piece in source.pieces():
                sums.add(piece)
            return self.store.keep(OBJECTS, content, sums.digest), sums
        draft = Draft(path)
        try:
            draft.write(b"")  # an empty file has no pieces
            for piece in source.pieces():
                draft.write(piece)
            draft.close()  # most of what comes twice need not reach the disk again
            return self.store.adopt(OBJECTS, path, draft.sums.digest), draft.sums
        finally:
            draft.discard()


def is_stat_folder(name: str) -> bool:
    """Whether the studies in a folder of this name are STAT. Case is ignored, as many shares ignore it."""
    return name.casefold() == STAT_FOLDER


def _is_loose(folder: Path, inbox: Path) -> bool:
    """Whether the folder is the inbox or its `stat` folder: its files may be of several patients."""
    return folder == inbox or (folder.parent == inbox and is_stat_folder(folder.name))
