"""Verdicts, reasons and bands in the words of deploy/READING.md."""

import re
from datetime import datetime

from schema.vocabulary import AuditAction, Band, Priority, Process, Reason, Verdict
from worker.screening.remarks import remarks
from worker.worklist.page_list import Show

#: Word and shape of each band: a shape, so that colour is never the only sign.
BANDS: dict[Band, tuple[str, str]] = {
    Band.STAT: ("STAT", "◆"),
    Band.OVERDUE: ("overdue", "◷"),
    Band.FLAGGED: ("flagged", "▲"),
    Band.ATTENTION: ("needs attention", "■"),
    Band.WAITING: ("waiting", "…"),
    Band.NOT_FLAGGED: ("not flagged", "○"),
    Band.INELIGIBLE: ("no chest radiograph", "–"),
}

REASONS: dict[str, str] = {
    Reason.AT_OR_ABOVE_THRESHOLD: "the probability reaches the operating point",
    Reason.BELOW_THRESHOLD: "the probability is below the operating point",
    Reason.OTHER_MODALITY: "no radiograph, by its header",
    Reason.OTHER_BODY_PART: "no chest, by its header",
    Reason.NOT_FRONTAL: "no frontal image",
    Reason.FOR_PROCESSING: "only the detector's raw image",
    Reason.BLANK_IMAGE: "all pixels have the same value",
    Reason.UNREADABLE_IMAGE: "an image could not be decoded",
    Reason.OUTSIDE_POPULATION: "outside the model's population",
    Reason.UNFAMILIAR: "unlike the images the model was made from",
    Reason.NO_LUNG_FIELD: "no plausible lungs in the image",
    Reason.TWO_PATIENTS: "one study with two patient IDs",
    Reason.OTHER_PIXELS: "two different images under one identifier",
    Reason.ATTEMPTS_EXHAUSTED: "three attempts ended in a crash",
    Reason.UNEXPECTED_ERROR: "a fault of the program",
    Reason.STAT: "a person gave it priority",
    Reason.OVERDUE: "unread beyond its limit",
    Reason.NEW_IMAGES: "new images came; the verdict is the old one",
    Reason.REQUEUED: "screened again; the verdict is the old one",
    Reason.RESCREENED: "screened again with a newer model; the verdict is the old one",
    Reason.RESULT_LATE: "the result is late",
    Reason.AWAITING_RESULT: "just arrived",
    Reason.SILENT_RUN: "has a result, which a silent run does not show",
    Reason.NOT_ASSESSABLE: "a reader found it not assessable",
}

#: The choices of the list's first filter.
SHOWS: dict[Show, str] = {
    Show.UNREAD: "unread",
    Show.FLAGGED: "flagged",
    Show.ATTENTION: "failed or unscreenable",
    Show.CONFLICT: "conflict",
    Show.WAITING: "waiting for a result",
    Show.READ: "read",
}

#: What somebody did, where the stored word alone does not say it.
DEEDS: dict[str, str] = {
    AuditAction.SHOWN: "study opened",
    AuditAction.LISTED: "list opened",
    AuditAction.HEATMAP_SHOWN: "heat map shown",
    AuditAction.PLACED_ANEW: "list placed anew",
    AuditAction.RETURNED: "study returned to the list",
    AuditAction.DEIDENTIFIED: "study copied without identifiers",
    AuditAction.LOGIN_FAILED: "log-in failed",
    AuditAction.INTERFACE_READ: "JSON interface read",
}

#: What does not happen while a process is missing, and how to begin it.
WITHOUT: dict[Process, str] = {
    Process.WATCHER: "no file is taken in: see that `worker run` or `worker watch` runs, lists the inbox and can store",
    Process.WORKER: "no study is screened: see that `worker run` or a queue worker runs",
    Process.RECEIVER: "no image is received by DICOM: see that `worker receive` runs",
}

DIGEST = re.compile(r"[0-9a-f]{64}")
UID = re.compile(r"[0-9.]+")

#: How a moment stands in an attribute or a header, for the page's script.
MOMENT = "%Y-%m-%dT%H:%M:%SZ"

#: Reasons that tell what the model said.
TELLING = frozenset({Reason.AT_OR_ABOVE_THRESHOLD, Reason.BELOW_THRESHOLD})


def in_words(code: str | None) -> str:
    """A stored word as people say it."""
    if not code:
        return ""
    return REASONS.get(code, code.replace("_", " "))


def deed(code: str) -> str:
    """What somebody did, as the audit has it."""
    return DEEDS.get(code, code.replace("_", " "))


def detail(said: str | None, verdict: str | None) -> str:
    """What follows a verdict's reason: what stands beside a flag, or the word that decided."""
    if not said:
        return ""
    if verdict != Verdict.FLAGGED:
        return f": {said}"
    return "".join(f"; {REASONS[reason]}" for reason, _ in remarks(said))


def plain(code: str) -> str:
    """A verdict of a reader."""
    return code.replace("_", " ")


def priority_word(code: str) -> str:
    """A priority as people write it."""
    return "STAT" if code == Priority.STAT else code


def day(date: str | None) -> str:
    """A DA value (YYYYMMDD) as YYYY-MM-DD."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if date and len(date) == 8 else (date or "")


def band_word(band: int) -> str:
    """The word of a band."""
    return BANDS[Band(band)][0]


def band_shape(band: int) -> str:
    """The shape of a band."""
    return BANDS[Band(band)][1]


def interval(estimate: dict[str, float]) -> str:
    """A measured number of a model's card with its 95 % interval."""
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f}, {estimate['n']:,} images)"


def moment(at: datetime | None) -> str:
    """A moment for the script; nothing for none."""
    return f"{at:{MOMENT}}" if at else ""


def minute(at: datetime | None) -> str:
    """A moment for people."""
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else "never"


def digest(subject: str | None) -> str:
    """What a deed was done to; of a digest only its beginning."""
    return subject[:12] if subject and DIGEST.fullmatch(subject) else subject or ""


def file_name(name: str) -> str:
    """The name of a file; one received by DICOM has its UID for a name, of which the end is enough."""
    return shortened(name) if UID.fullmatch(name) else name


def shortened(uid: str) -> str:
    """The end of a UID, where UIDs differ."""
    return uid if len(uid) <= 13 else f"…{uid[-12:]}"
