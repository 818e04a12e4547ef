"""The values that settings take: an enumeration for each choice, and functions that read one value or refuse it.

A refusal is a ValueError that says what is wanted. Imports nothing of ours.
"""

import math
import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

Number = TypeVar("Number", int, float)


class InboxMode(StrEnum):
    """What happens to a file of the inbox once it is safe in the store."""

    MOVE = "move"  #: removed from the inbox
    COPY = "copy"  #: left in the inbox, and copied to the store
    LEAVE = "leave"  #: left in the inbox and read there; the store keeps only its overlay


class StoreLink(StrEnum):
    """Whether a file that leaves the inbox may become the stored file itself, without a copy."""

    AUTO = "auto"  #: where inbox and store are on one file system, and the system holds the file against writers
    OFF = "off"  #: for an inbox that other machines mount (NFS): they may hold a file open unseen


class AuditReads(StrEnum):
    """Which reads the audit records."""

    NONE = "none"
    STUDIES = "studies"  #: reads of one study: `worker show`
    LISTS = "lists"  #: these, and reads of the worklist and of the list of unreadable files


class UncertainReview(StrEnum):
    """What becomes of a study whose reader was uncertain."""

    STAYS = "stays"  #: on the list, marked, until somebody is sure
    LEAVES = "leaves"  #: as with any other verdict


class Silent(StrEnum):
    """Whether verdicts move studies on the worklist."""

    OFF = "off"
    ON = "on"  #: a silent run: flagged and not flagged studies share one band, oldest first


class RasterStudy(StrEnum):
    """Which PNG and JPEG files form one study."""

    FILE = "file"
    FOLDER = "folder"  #: the files of one subfolder of the inbox


class SendVerdicts(StrEnum):
    """Of which verdicts results are sent to the archive."""

    FLAGGED = "flagged"  #: and studies that failed or conflict; nothing of those that could not be judged
    SCREENED = "screened"  #: flagged, not flagged, unscreenable, and studies that could not be screened


class ReportClass(StrEnum):
    """The SOP Class of reports."""

    COMPREHENSIVE_3D = "comprehensive_3d"
    ENHANCED = "enhanced"  #: for archives that refuse the other


class Retract(StrEnum):
    """What happens to the objects of an earlier revision."""

    NONE = "none"  #: the new report names them
    IOCM = "iocm"  #: and a Key Object rejects them


class Provider(StrEnum):
    """The execution provider for ONNX Runtime."""

    AUTO = "auto"  #: CUDA if it binds, else the CPU
    CPU = "cpu"
    CUDA = "cuda"  #: refuse to start without it


class Reveal(StrEnum):
    """When the page shows a reader what the model said."""

    ALWAYS = "always"
    AFTER_VERDICT = "after_verdict"  #: after the reader's first verdict on it


class ReducedDecode(StrEnum):
    """Whether compressed images may be decoded at a lower resolution than they hold."""

    ON = "on"  #: if the model's card has measurements for it
    OFF = "off"  #: every image is decoded in full


LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def positive(kind: type[int] | type[float], most: float = math.inf) -> Callable[[Any], int | float]:
    """A converter to numbers greater than 0, finite, and at most `most`."""
    limit = "finite" if most == math.inf else f"at most {most:,}"

    def convert(value: Any) -> int | float:
        number = _number(value, kind)
        if not 0 < number <= most or number == math.inf:
            raise ValueError(f"it must be greater than 0 and {limit}, not {number}")
        return number

    return convert


#: Converters to times of less than a century: dates beyond the year 9999 cannot be stored.
seconds, hours = positive(float, 3_000_000_000), positive(float, 900_000)


def sqlite_file(value: Any) -> str:
    """A converter to database URLs. SQLite without a file would forget everything when a program ends."""
    url = str(value)
    if url.startswith("sqlite") and (":memory:" in url or not url.partition("://")[2].strip("/")):
        raise ValueError("it names no file: give sqlite:////folder/file.sqlite or a postgresql:// URL")
    return url


def whole(least: int, most: int | None = None) -> Callable[[Any], int]:
    """A converter to whole numbers from `least` to `most`, both included."""
    limit = "" if most is None else f" and at most {most}"

    def convert(value: Any) -> int:
        number = _number(value, int)
        if number < least or (most is not None and number > most):
            raise ValueError(f"it must be at least {least}{limit}, not {number}")
        return number

    return convert


def _number(value: Any, kind: Callable[[Any], Number]) -> Number:
    try:
        if isinstance(value, bool):  # Python counts true as 1
            raise ValueError
        return kind(value)
    except (ValueError, TypeError):
        wanted = "a whole number" if kind is int else "a number"
        raise ValueError(f"it must be {wanted}, not {value!r}") from None


def log_level_name(value: Any) -> str:
    """Refuse what is no log level."""
    if value not in LOG_LEVELS:
        raise ValueError(f"it must be one of {', '.join(LOG_LEVELS)}")
    return str(value)


def redis_url(value: Any) -> str:
    """Refuse what is no Redis URL."""
    if value and not str(value).startswith(("redis://", "rediss://", "redis+socket://", "sentinel://")):
        raise ValueError("it must be a URL such as redis://host:6379/0")
    return str(value)


def store_place(value: Any) -> str:
    """Refuse a URL that does not name a bucket; it must not contain credentials."""
    if "://" in str(value) and not re.fullmatch(r"s3://[\w.-]+(/[\w.=+-]+)*/?", str(value)):
        raise ValueError("it must be a folder, or a URL such as s3://bucket/prefix")
    return str(value)


def destination(value: Any) -> str:
    """Refuse what is neither AETITLE@HOST:PORT nor a folder."""
    if value and not re.fullmatch(r"[^@\\,]{1,16}@[\w.:-]+:\d{1,5}|.*/.*", str(value)):
        raise ValueError("it must be AETITLE@HOST:PORT, or a folder such as ./outbox")
    return str(value)


def result_kinds(value: Any) -> str:
    """Refuse what is no list of result objects."""
    if value not in ("report", "report,overlay"):
        raise ValueError("it must be report or report,overlay")
    return str(value)
