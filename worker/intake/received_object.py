"""A whole object that came over the network becomes an arrival: no quiet time of a file, the store by a rename.

Knows nothing of the network. A study still settles after its own quiet time.
"""

import mmap
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from schema.vocabulary import FileState, Priority
from worker.errors import Rejected
from worker.imaging.first_bytes import read_from_first_bytes
from worker.imaging.image_file import read_instance
from worker.imaging.instance import Instance
from worker.imaging.limits import Limits
from worker.intake.ingest import Intake
from worker.intake.reader import IntakeRequest, ReadFile
from worker.ledger.intake import files
from worker.ledger.intake.arrivals import Incoming, Registration
from worker.ledger.intake.register import accepted_copies
from worker.store import OBJECTS, crc_of

#: Longest part of a digest in the path of an object that waits for a comparison.
SHORT_DIGEST = 16


@dataclass(frozen=True)
class ReceivedObject:
    """A durable file of ours with one received object, and what is known about it."""

    file: Path
    path: str  #: for the arrival: who sent what; names no patient
    digest: str
    crc: int
    size_bytes: int
    priority: Priority


def read_header(file: Path, limits: Limits) -> Instance:
    """The header of a file: from its first bytes, or mapped, never read into memory. Raises Rejected."""
    with file.open("rb", buffering=0) as opened:
        descriptor = opened.fileno()
        size = os.fstat(descriptor).st_size
        found = read_from_first_bytes(lambda at, length: os.pread(descriptor, length, at), size, limits)
        if found is not None:
            return found
        whole = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)  # unmapped with its last view
    try:
        return read_instance(whole, limits)  # type: ignore[arg-type]  # a map has what the walk needs of bytes
    except Rejected as error:
        raise error.with_traceback(None) from None  # whose frames would keep the map


def take_in(
    intake: Intake, received: ReceivedObject, header: Instance | Rejected, now: datetime
) -> tuple[Registration, ReadFile | None]:
    """Store and book an object, or quarantine one whose header is refused.

    When pixels must be compared with those of an object accepted before, the bytes are stored and the arrival is
    committed as WAITING; the second value is then to be given to `Intake.book`. Raises Interrupted.
    """
    intake.capacity.require(intake.settings, intake.store, now)
    kept = intake.store.adopt(OBJECTS, received.file, received.digest)
    intake.capacity.add(0 if kept.is_proved else received.size_bytes)
    request = _request(received.path, received.size_bytes, received.priority, now)
    if isinstance(header, Rejected):
        return intake.book(_read(request, received, None, header, kept.is_proved), now), None
    copies = accepted_copies(intake.database, header, received.digest)
    if not any(not copy.is_unreadable for copy in copies):
        return intake.book(_read(request, received, header, None, kept.is_proved), now), None
    path = f"{received.path}#{received.digest[:SHORT_DIGEST]}"  # several may wait under one SOP Instance UID
    request = _request(path, received.size_bytes, received.priority, now)
    files.hold(intake.database, request.file, received.digest, now)
    registered = Registration(FileState.WAITING, header.study_uid, "its pixels are compared", is_in_store=True)
    return registered, _read(request, received, header, None, kept.is_proved)


def held_objects(intake: Intake) -> list[ReadFile]:
    """What an earlier process had committed as WAITING and not booked. Raises Interrupted."""
    found = []
    for file, digest in files.held_files(intake.database):
        request = IntakeRequest(file, Path("/"), is_final=True, is_settled=False)
        try:
            content = intake.store.get(OBJECTS, digest)
            header = read_instance(content, intake.limits)
        except Rejected as error:
            found.append(ReadFile(request, digest, refusal=error, keeps_path=True))
        else:
            found.append(ReadFile(request, digest, header, crc_of(content), keeps_path=True))
    return found


def _request(path: str, size_bytes: int, priority: Priority, now: datetime) -> IntakeRequest:
    file = Incoming(path, size_bytes, int(now.timestamp() * 1e9), priority)
    return IntakeRequest(file, Path("/"), is_final=True, is_settled=False)


def _read(
    request: IntakeRequest, received: ReceivedObject, header: Instance | None, refusal: Rejected | None, is_proved: bool
) -> ReadFile:
    return ReadFile(
        request, received.digest, header, received.crc, None, refusal, was_missing=not is_proved, keeps_path=True
    )
