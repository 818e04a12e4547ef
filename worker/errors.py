"""All errors of the program, as one tree.

    ScreeningError
    ├── Rejected        this input will never work; its row says why
    │   ├── the file    NotAFile, Unreadable, SourceChanged, StoredFileLost
    │   ├── its form    NotAnImage, Truncated, NoPixelData, MissingElement, UnsupportedSyntax, UnsupportedPixels
    │   └── decoding    TooLarge, Undecodable, DecoderCrashed, DecoderTimedOut, DecoderOutOfMemory
    ├── Interrupted     a device, disk, database or broker is away; tried again until it is back
    │   ├── services    StorageUnavailable, DatabaseUnavailable, BrokerUnavailable
    │   └── processes   DecoderUnavailable, DeviceUnavailable, CopyUnseen, ShareLost
    └── Misconfigured   the installation is wrong; the program stops and names the remedy
        ├── settings    BadSetting, NoHome, HomeInUse, DatabaseShared, SchemaOutdated, IdentifiersDiffer
        ├── models      BadData (labels, manifests, splits), ModelRefused, ProviderUnavailable, PromotionRefused,
        │               NoTrainer
        ├── studies     UnknownStudy, NotRequeueable, AlreadyRead, NothingToWithdraw, StudyChanged
        └── the page    AccountRefused, Refused

Anything outside this tree is a bug. Each error has a stable `code`; its `subject` (a UID, a path) is attached once, at
the boundary that knows it, by `about`.
"""

from typing import ClassVar, Self


class ScreeningError(Exception):
    """Root of the tree. `code` is stable and stored in rows; the message names the fault and the remedy."""

    code: ClassVar[str] = "screening_error"
    subject: str | None = None

    def about(self, subject: str) -> Self:
        """Attach what the error is about, unless an inner boundary has done so; returns self for `raise`."""
        if self.subject is None:
            self.subject = subject
        return self

    def __str__(self) -> str:
        message = super().__str__()
        return f"{self.subject}: {message}" if self.subject else message

    @property
    def message(self) -> str:
        """The message without its subject. It is safe to log; a subject may be a file name with a patient's name."""
        return super().__str__()


class Rejected(ScreeningError):
    """This input will never work, even if it is tried again.

    `instance` holds the header's Instance if the header names a study, so that the study can show the error.
    """

    code = "rejected"

    def __init__(self, message: str, instance: object | None = None) -> None:
        super().__init__(message)
        self.instance = instance


class NotAFile(Rejected):
    """A FIFO, socket, device or folder where a file should be."""

    code = "not_a_regular_file"


class Unreadable(Rejected):
    """The file exists and cannot be opened or read."""

    code = "unreadable_file"


class SourceChanged(Rejected):
    """A file that was left in the inbox is gone, or has other bytes than those accepted."""

    code = "source_changed"


class StoredFileLost(Rejected):
    """The store is available, and this object in it is gone or damaged. This does not end by itself."""

    code = "stored_file_lost"


class NotAnImage(Rejected):
    """Neither DICOM nor PNG or JPEG."""

    code = "not_an_image"


class Truncated(Rejected):
    """The file ends too early. `instance` holds the header's Instance if the header names a study."""

    code = "truncated"


class NoPixelData(Rejected):
    """A complete object that holds no pixels: a header without its image, or a document."""

    code = "no_pixel_data"


class MissingElement(Rejected):
    """A DICOM element without which the object cannot be filed or decoded is absent, empty or malformed."""

    code = "missing_element"


class UnsupportedSyntax(Rejected):
    """The transfer syntax is not in the table of `worker.imaging.codec.transfer_syntaxes`."""

    code = "unsupported_transfer_syntax"


class UnsupportedPixels(Rejected):
    """The pixels are not those of a single-frame radiograph (multi-frame, float, ...)."""

    code = "unsupported_pixels"


class TooLarge(Rejected):
    """Decoding would take more memory than the setting allows; nothing was allocated."""

    code = "too_large"


class Undecodable(Rejected):
    """Every decoder for the transfer syntax failed on this codestream."""

    code = "undecodable"


class DecoderCrashed(Rejected):
    """The decoder child crashed on this image, and so did a new one."""

    code = "decoder_crashed"


class DecoderTimedOut(Rejected):
    """The decoder child did not finish this image in time and was stopped."""

    code = "decoder_timed_out"


class DecoderOutOfMemory(Rejected):
    """Decoding this image needs more memory than the decoder child may have."""

    code = "decoder_out_of_memory"


class Interrupted(ScreeningError):
    """The input is not at fault; the work is tried again, and this attempt does not count."""

    code = "interrupted"


class StorageUnavailable(Interrupted):
    """The store or the inbox cannot be read or written (full, unmounted, no permission)."""

    code = "storage_unavailable"


class DatabaseUnavailable(Interrupted):
    """The database does not answer."""

    code = "database_unavailable"


class BrokerUnavailable(Interrupted):
    """The broker does not answer."""

    code = "broker_unavailable"


class DecoderUnavailable(Interrupted):
    """The decoder child cannot be started; no image is at fault."""

    code = "decoder_unavailable"


class DeviceUnavailable(Interrupted):
    """The inference device failed: out of memory, or lost. No model is refused for it."""

    code = "device_unavailable"


class CopyUnseen(Interrupted):
    """Another process accepted a copy of this image after the file was compared with the accepted ones."""

    code = "copy_unseen"


class ShareLost(Interrupted):
    """Another watcher of the inbox takes in what this one took in before; nothing was booked."""

    code = "share_lost"


class Misconfigured(ScreeningError):
    """The installation is wrong; the program stops at once and says what to do."""

    code = "misconfigured"


class BadSetting(Misconfigured):
    """One or more settings are wrong; all of them are named."""

    code = "bad_setting"


class BadData(Misconfigured):
    """A data set for the trainer is wrong: unknown label, missing column, empty class, broken split."""

    code = "bad_data"


class ModelRefused(Misconfigured):
    """The model file breaks the tensor contract, has no card, or fails its golden replay."""

    code = "model_refused"


class ProviderUnavailable(Misconfigured):
    """The execution provider asked for is not the one ONNX Runtime bound."""

    code = "provider_unavailable"


class PromotionRefused(Misconfigured):
    """A decision about a model is not allowed: no valid comparison, a broken margin, or no earlier model."""

    code = "promotion_refused"


class NoTrainer(Misconfigured):
    """`worker calibrate` needs the program `trainer`, and it is not installed."""

    code = "no_trainer"


class NoHome(Misconfigured):
    """The state folder does not exist, or cannot be made."""

    code = "no_home"


class HomeInUse(Misconfigured):
    """Another process holds the lock of this state folder."""

    code = "home_in_use"


class DatabaseShared(Misconfigured):
    """Several installations use this database, and one of them has a private broker."""

    code = "database_shared"


class SchemaOutdated(Misconfigured):
    """The database is not at the migration of this program: run `worker db upgrade`, or upgrade the program."""

    code = "schema_outdated"


class IdentifiersDiffer(Misconfigured):
    """The database stores identifiers in another mode, or with another key, than the settings say."""

    code = "identifiers_differ"


class UnknownStudy(Misconfigured):
    """No study in the ledger has this UID."""

    code = "unknown_study"


class NotRequeueable(Misconfigured):
    """The study already waits for a result, or its images were pruned."""

    code = "not_requeueable"


class AlreadyRead(Misconfigured):
    """The study was read, so nobody would see the effect of the action."""

    code = "already_read"


class NothingToWithdraw(Misconfigured):
    """The study has no review, or its newest one is withdrawn already."""

    code = "nothing_to_withdraw"


class StudyChanged(Misconfigured):
    """A verdict on a study that has changed since its reader opened it."""

    code = "study_changed"
