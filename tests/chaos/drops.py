"""The studies of a chaos run: small and valid, each with its own UID; and between them files that are not studies.

A part of the studies comes by C-STORE; the rest, and all that is no study, through the inbox.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.phantoms import dicom_file, picture

#: Root of the UIDs: 2.25 and a fixed number nobody else uses.
UID_ROOT = "2.25.158604518842697361904185203658"

#: Every so many: a STAT study, a study of two images, a file that is no image, a study that comes by C-STORE.
STAT_EVERY, TWO_IMAGES_EVERY, BROKEN_EVERY, SENT_EVERY = 10, 6, 12, 3

STAT_FOLDER = "stat/"


@dataclass(frozen=True)
class Drop:
    """A file to write or to send: its name below the inbox, and the study it belongs to (None: it is no image)."""

    name: str
    content: bytes
    study_uid: str | None
    is_sent: bool = False  #: by C-STORE, to the title for STAT studies where its folder says so

    @property
    def is_stat(self) -> bool:
        """Whether its study is STAT."""
        return self.name.startswith(STAT_FOLDER)


def drops(count: int) -> Iterator[Drop]:
    """The files of `count` valid studies, and a few that must be quarantined."""
    for number in range(1, count + 1):
        folder = STAT_FOLDER if number % STAT_EVERY == 0 else ""
        uid = f"{UID_ROOT}.{number}"
        for image in range(1, 3 if number % TWO_IMAGES_EVERY == 0 else 2):
            name, content = f"{folder}{number:05d}_{image}.dcm", _radiograph(uid, number, image)
            yield Drop(name, content, uid, is_sent=number % SENT_EVERY == 0)
        if number % BROKEN_EVERY == 0:
            yield Drop(f"{number:05d}_letter.txt", f"Dear colleague {number}".encode(), None)


def write(drop: Drop, inbox: Path) -> None:
    """Put a file into the inbox as good senders do: aside, then renamed."""
    target = inbox / drop.name
    draft = target.with_name(target.name + ".partial")
    draft.write_bytes(drop.content)
    draft.rename(target)


def _radiograph(uid: str, number: int, image: int) -> bytes:
    pixels = np.roll(picture(), (number, 7 * number + image), (0, 1))
    return dicom_file(
        pixels, StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.1", SOPInstanceUID=f"{uid}.1.{image}",
        AccessionNumber=f"C{number:05d}", PatientID=f"CHAOS-{number:05d}",
    )  # fmt: skip
