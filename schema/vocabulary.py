"""The vocabulary of the code base: states, verdicts, reasons, priorities, and which state may follow which.

Uses only the standard library; every other package may import it. The database stores enum members by value.
"""

from enum import IntEnum, StrEnum


class FileState(StrEnum):
    """The state of a file that was seen; every file has exactly one."""

    WAITING = "waiting"  #: seen, not yet settled or not yet complete
    ACCEPTED = "accepted"  #: in the store, an instance of a study
    DUPLICATE = "duplicate"  #: its bytes, or its UID with the same pixels, were accepted before
    CONFLICT = "conflict"  #: its UID was accepted before with other pixels; kept and screened too
    QUARANTINED = "quarantined"  #: can never be read; kept in the store, with a code and a message
    VANISHED = "vanished"  #: gone from the inbox before it settled


class StudyState(StrEnum):
    """The state of a study on its way to a verdict; every study has exactly one."""

    RECEIVED = "received"  #: registered, still collecting images
    QUEUED = "queued"  #: offered to the broker
    SCREENING = "screening"  #: claimed by a worker under a lease
    SCREENED = "screened"  #: has a verdict for its current revision
    FAILED = "failed"  #: gave no verdict; needs a person (`worker requeue`)


#: States of a study that still waits for a result, or for a newer one.
UNDERWAY = (StudyState.RECEIVED, StudyState.QUEUED, StudyState.SCREENING)

#: Which state may follow which. The ledger refuses everything else.
TRANSITIONS: dict[StudyState, frozenset[StudyState]] = {
    StudyState.RECEIVED: frozenset({StudyState.QUEUED}),
    # back to RECEIVED: another image came before a worker claimed it
    StudyState.QUEUED: frozenset({StudyState.SCREENING, StudyState.RECEIVED, StudyState.FAILED}),
    # back to QUEUED: interrupted or lease lost; back to RECEIVED: another image came meanwhile
    StudyState.SCREENING: frozenset({StudyState.SCREENED, StudyState.FAILED, StudyState.QUEUED, StudyState.RECEIVED}),
    # back to RECEIVED: another image reopened it, or `worker requeue`
    StudyState.SCREENED: frozenset({StudyState.RECEIVED}),
    StudyState.FAILED: frozenset({StudyState.RECEIVED}),
}


class Verdict(StrEnum):
    """The result of screening a study."""

    FLAGGED = "flagged"  #: at least one eligible image reaches the threshold
    NOT_FLAGGED = "not_flagged"  #: every eligible image was read, fits the model, and stays below the threshold
    UNSCREENABLE = "unscreenable"  #: a chest study that gave no trustworthy answer
    INELIGIBLE = "ineligible"  #: holds no chest radiograph


class Reason(StrEnum):
    """Why a study has its verdict, its place or its failure. Codes are stable; rows and tests quote them."""

    # verdicts
    AT_OR_ABOVE_THRESHOLD = "at_or_above_threshold"
    BELOW_THRESHOLD = "below_threshold"
    # ineligible
    OTHER_MODALITY = "other_modality"
    OTHER_BODY_PART = "other_body_part"
    # unscreenable
    NOT_FRONTAL = "not_frontal"
    FOR_PROCESSING = "for_processing"
    BLANK_IMAGE = "blank_image"
    UNREADABLE_IMAGE = "unreadable_image"
    OUTSIDE_POPULATION = "outside_population"
    UNFAMILIAR = "unfamiliar"
    NO_LUNG_FIELD = "no_lung_field"  #: lungs missing, cut off or of an implausible shape
    # conflicts
    TWO_PATIENTS = "two_patients"
    OTHER_PIXELS = "other_pixels"
    # failures
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    UNEXPECTED_ERROR = "unexpected_error"
    # places
    STAT = "stat"
    OVERDUE = "overdue"
    NEW_IMAGES = "new_images"
    REQUEUED = "requeued"
    RESCREENED = "rescreened"  #: by `worker batch --rescreen`, with a newer model
    RESULT_LATE = "result_late"
    AWAITING_RESULT = "awaiting_result"
    SILENT_RUN = "silent_run"  #: has a verdict that does not move it: flagged and not flagged, oldest first
    NOT_ASSESSABLE = "not_assessable"  #: a reader found that the images do not allow a reading


class Priority(StrEnum):
    """How soon a study should be read; also the name of its queue. The program never lowers it by itself."""

    STAT = "stat"
    ROUTINE = "routine"
    NIGHTLY = "nightly"  #: from an archive: screened when nothing else waits, and never overdue


class Band(IntEnum):
    """The bands of the worklist, read from the top."""

    STAT = 1
    OVERDUE = 2
    FLAGGED = 3
    ATTENTION = 4  #: failed, conflicting, unscreenable, or waiting too long for a result
    WAITING = 5
    NOT_FLAGGED = 6  #: in a silent run the flagged ones too
    INELIGIBLE = 7


#: Verdicts that a silent run does not show.
SILENT_VERDICTS = (Verdict.FLAGGED, Verdict.NOT_FLAGGED)

#: The beginning of the sort key of their studies in a silent run; no other study has it.
SILENT_KEY = "60000000"


class ReviewOutcome(StrEnum):
    """What a radiologist found. Used in the agreement view and, as labels, in the next `trainer fit`."""

    PNEUMONIA = "pneumonia"
    NO_PNEUMONIA = "no_pneumonia"
    UNCERTAIN = "uncertain"
    NOT_ASSESSABLE = "not_assessable"  #: the images do not allow a reading; counts neither way


class ModelAction(StrEnum):
    """What was done with a model. The rows of `promotion`, in their order, determine which model serves."""

    INSTALLED = "installed"  #: the setting's model, used while nobody had promoted one
    PROMOTED = "promoted"  #: serves from now on
    ROLLED_BACK = "rolled_back"  #: serves again, in place of the one promoted after it
    SHADOWED = "shadowed"  #: scores beside the active one; nobody sees its verdicts
    RETIRED = "retired"  #: must not serve or shadow again
    REFUSED = "refused"  #: a worker could not open or verify it; on that worker the one before still serves
    ACCEPTED = "accepted"  #: a worker that had refused it could verify it later


class Stability(StrEnum):
    """How a model's scores or inputs compare with its reference; ordered from harmless to worst."""

    NO_REFERENCE = "no_reference"  #: the model's card has none
    TOO_FEW = "too_few"  #: images for a judgement
    STEADY = "steady"
    WATCH = "watch"  #: more than chance explains, less than a shift
    LEFT_LIMITS = "left_limits"

    @property
    def rank(self) -> int:
        """Position in this list, for sorting."""
        return list(Stability).index(self)


class DriftEvent(StrEnum):
    """A change between two evaluations; reported once, and not again each night for the same cause."""

    LEFT_LIMITS = "left_limits"
    RETURNED = "returned"  #: steady again


class AuditAction(StrEnum):
    """What somebody did. Reviews, priorities and decisions about models are not here; they have their own tables."""

    SHOWN = "shown"  #: looked at a study
    LISTED = "listed"  #: looked at the worklist, or at the files that could not be read
    REQUEUED = "requeued"
    PLACED_ANEW = "placed_anew"  #: placed every unread study anew, because a silent run began or ended
    RETURNED = "returned"  #: brought a study that was read back to the list
    PRUNED = "pruned"
    LABELS_EXPORTED = "labels_exported"
    DEIDENTIFIED = "deidentified"  #: exported a copy of a study without identifiers
    LOGGED_IN = "logged_in"
    LOGIN_FAILED = "login_failed"
    LOGGED_OUT = "logged_out"
    PICTURE_FETCHED = "picture_fetched"  #: an image of a study, once a session
    HEATMAP_SHOWN = "heatmap_shown"
    HOLD_TAKEN_OVER = "hold_taken_over"
    ACCOUNT_CHANGED = "account_changed"
    INTERFACE_READ = "interface_read"  #: another system read the JSON interface


class Process(StrEnum):
    """A kind of process whose life the list shows."""

    WATCHER = "watcher"
    WORKER = "worker"
    RECEIVER = "receiver"


class DispatchKind(StrEnum):
    """A result object that is sent to an archive."""

    REPORT = "report"  #: a Structured Report
    OVERLAY = "overlay"  #: the heat map, as Secondary Capture
    RETRACTION = "retraction"  #: a Key Object that rejects the objects of earlier revisions


class DispatchState(StrEnum):
    """How far a result object is on its way; the last two need a person."""

    DUE = "due"
    SENT = "sent"  #: the archive has accepted it
    NEEDLESS = "needless"  #: nothing was left to do, as no earlier object had been accepted
    REFUSED = "refused"  #: the archive will never accept it
    GIVEN_UP = "given_up"  #: tried for days


class IdentifierMode(StrEnum):
    """How the database stores what identifies a patient."""

    PLAIN = "plain"  #: as received
    PSEUDONYMS = "pseudonyms"  #: as keyed hashes


class Role(StrEnum):
    """What an account of the page may do."""

    READER = "reader"  #: look at studies, give verdicts and priorities
    OPERATOR = "operator"  #: see the list, states and quarantine, and requeue; no pictures
    ADMIN = "admin"  #: both, and the audit
