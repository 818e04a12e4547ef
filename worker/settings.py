"""The settings: environment (`SCREENING_*`) over a TOML file over defaults; read once, all faults reported together."""

import difflib
import hashlib
import math
import os
import re
import tempfile
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs
import typed_settings as ts

from schema.vocabulary import IdentifierMode
from worker.errors import BadSetting

ENV_PREFIX = "SCREENING_"

#: Names of the TOML file's place and of a switch of the test suite; not settings themselves.
OTHER_NAMES = frozenset({"SCREENING_SETTINGS", "SCREENING_SHARED"})

DEFAULT_MODEL = Path(__file__).parent / "inference" / "models" / "mobilenetv2_house.onnx"

#: Longest decode of one image. The slowest codec takes a second for the largest detector's.
DECODER_DEADLINE_S = 60.0

#: Address space of a decoder child: 0.3 GiB for its libraries, and 1.8 (JPEG-LS) to 5.2 (JPEG 2000 in colour) bytes for
#: each byte of the decoded image.
DECODER_MEMORY_MIB = 4096

#: A Unix socket's path holds 107 bytes (sockaddr_un); longer state folders get their socket elsewhere.
LONGEST_SOCKET_PATH = 100


#: The embedded database, in the state folder.
SQLITE_FILE = "screening.sqlite"


class InboxMode(StrEnum):
    """What happens to a file of the inbox once it is safe in the store."""

    MOVE = "move"  #: removed from the inbox
    COPY = "copy"  #: left in the inbox, and copied to the store
    LEAVE = "leave"  #: left in the inbox and read there; the store keeps only its overlay


class AuditReads(StrEnum):
    """Which looks are kept in the audit."""

    NONE = "none"
    STUDIES = "studies"  #: at one study: `worker show`
    LISTS = "lists"  #: these, and at the worklist and the files that could not be read


class UncertainReview(StrEnum):
    """What becomes of a study whose reader was uncertain."""

    STAYS = "stays"  #: on the list, marked, until somebody is sure
    LEAVES = "leaves"  #: as with any other verdict


class RasterStudy(StrEnum):
    """What makes PNG and JPEG files one study."""

    FILE = "file"
    FOLDER = "folder"  #: the files of one subfolder of the inbox


class Provider(StrEnum):
    """The execution provider asked of ONNX Runtime."""

    AUTO = "auto"  #: CUDA if it binds, else the CPU
    CPU = "cpu"
    CUDA = "cuda"  #: refuse to start without it


class ReducedDecode(StrEnum):
    """Whether compressed images may be decoded at a lower resolution than they hold."""

    ON = "on"  #: where the model's card says that it was measured so
    OFF = "off"  #: every image is decoded in full


def positive(_instance: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    """Refuse zero and less, and what is no time or size at all."""
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be greater than 0 and finite, not {value}")


def named(_instance: object, attribute: "attrs.Attribute[Any]", value: Path) -> None:
    """Refuse an empty path (an unset variable), which would mean the current folder itself."""
    if value == Path():
        raise ValueError(f"{attribute.name} is empty: name a folder, or leave it unset")


def redis_url(_instance: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    """Refuse what is no Redis URL."""
    if value and not value.startswith(("redis://", "rediss://", "redis+socket://", "sentinel://")):
        raise ValueError(f"{attribute.name} must be a URL such as redis://host:6379/0")


def store_place(_instance: object, attribute: "attrs.Attribute[Any]", value: str) -> None:
    """Refuse a URL that is none of a bucket; credentials do not belong into it."""
    if "://" in value and not re.fullmatch(r"s3://[\w.-]+(/[\w.=+-]+)*/?", value):
        raise ValueError(f"{attribute.name} must be a folder, or a URL such as s3://bucket/prefix")


def setting(default: Any, meaning: str, validator: Any = None) -> Any:
    """A field with its one-line explanation, shown by `worker settings`."""
    return attrs.field(default=default, validator=validator, metadata={"meaning": meaning})


@attrs.frozen(kw_only=True)
class Settings:
    """Every setting, with its unit in its name."""

    home: Path = setting(Path(".screening"), "folder of all state on the embedded default", named)
    database: str = setting("", "database URL; empty: SQLite in the state folder")
    broker: str = setting("", "Redis URL; empty: a private Redis in the state folder", redis_url)
    store: str = setting(
        "", "folder, or s3://BUCKET/PREFIX, of received objects and overlays; empty: in the state folder", store_place
    )
    model: Path = setting(DEFAULT_MODEL, "model file")
    provider: Provider = setting(Provider.AUTO, "auto, cpu or cuda")
    processes: int = setting(max(1, os.cpu_count() or 1), "worker processes of `worker screen` and `run`", positive)
    studies_at_once: int = setting(1, "studies a worker process screens at a time, each with a decoder child; 1 to 16",
        attrs.validators.and_(attrs.validators.ge(1), attrs.validators.le(16)))  # fmt: skip

    inbox_mode: InboxMode = setting(InboxMode.MOVE, "move, copy or leave")
    raster_study: RasterStudy = setting(RasterStudy.FILE, "file: each PNG/JPEG is a study; folder: each subfolder is")
    scan_interval_s: float = setting(5.0, "time between two scans of the inbox", positive)
    file_quiet_s: float = setting(10.0, "a file is settled after this time without change", positive)
    truncated_after_s: float = setting(300.0, "an unchanged file that does not parse is quarantined after it", positive)
    study_quiet_s: float = setting(60.0, "a study is settled after this time without a new image", positive)
    study_longest_wait_s: float = setting(900.0, "a study is settled at last after this time", positive)

    message_size: int = setting(16, "most studies in one routine message; half a second of work wins", positive)
    lease_s: float = setting(30.0, "a claim without a heartbeat lapses after it", positive)
    heartbeat_s: float = setting(10.0, "time between two heartbeats", positive)
    max_attempts: int = setting(3, "claims that may die before a study is FAILED", positive)
    reoffer_after_s: float = setting(600.0, "a queued study is offered again after it", positive)
    result_due_s: float = setting(900.0, "without a result after it, a study needs attention", positive)
    alarm_after_s: float = setting(1800.0, "`worker check` fails when a study waits longer for its result", positive)
    overdue_after_h: float = setting(24.0, "unread after it, a study is overdue", positive)

    uncertain_review: UncertainReview = setting(
        UncertainReview.STAYS, "a study read as uncertain: stays on the list, marked, or leaves it"
    )
    reduced_decode: ReducedDecode = setting(
        ReducedDecode.ON, "on: compressed images are decoded no finer than the model needs, if its card allows it; off"
    )
    max_pixel_mib: int = setting(512, "largest decoded image; larger ones are rejected unread", positive)
    decoder_deadline_s: float = setting(DECODER_DEADLINE_S, "longest decode of one compressed image", positive)
    decoder_memory_mib: int = setting(
        DECODER_MEMORY_MIB, "address space of the child process that decodes compressed images", positive
    )
    min_free_mib: int = setting(512, "intake stops below this free space in the store", positive)
    store_quota_mib: int = setting(
        0,
        "most the store may hold: the watcher lets go of what was read the longest ago, else intake stops; 0: no quota",
        attrs.validators.ge(0),
    )

    nightly: str = setting("", "words for `worker batch`, which Celery beat has started every night; empty: none")

    metrics_host: str = setting("127.0.0.1", "address `worker metrics` listens on; it asks nobody for a password")
    metrics_port: int = setting(9464, "port `worker metrics` listens on; 0: any", attrs.validators.and_(
        attrs.validators.ge(0), attrs.validators.le(65535)))  # fmt: skip
    metrics_interval_s: float = setting(15.0, "metrics are read afresh when they are older", positive)
    metrics_scanners: int = setting(
        20, "scanners with metrics of their own; 0: no header's word in any", attrs.validators.ge(0)
    )
    identifiers: IdentifierMode = setting(
        IdentifierMode.PLAIN,
        "what the database keeps of patient ID, issuer, accession number, paths: plain or pseudonyms",
    )
    audit_reads: AuditReads = setting(
        AuditReads.STUDIES, "which looks the audit keeps: none, studies (`worker show`) or lists (the worklist too)"
    )
    log_level: str = setting("INFO", "DEBUG, INFO, WARNING or ERROR", attrs.validators.in_(
        ("DEBUG", "INFO", "WARNING", "ERROR")))  # fmt: skip

    def __attrs_post_init__(self) -> None:
        """Make the state folder absolute: child processes may run elsewhere."""
        object.__setattr__(self, "home", self.home.expanduser().absolute())
        if self.heartbeat_s * 2 > self.lease_s:
            raise ValueError(f"heartbeat_s ({self.heartbeat_s}) must be at most half of lease_s ({self.lease_s})")
        if self.identifiers is IdentifierMode.PSEUDONYMS and self.inbox_mode is InboxMode.LEAVE:
            raise ValueError("identifiers=pseudonyms keeps no paths, inbox_mode=leave needs them: take copy or move")

        if self.studies_at_once > 1 and self.max_attempts < 2:
            raise ValueError("studies_at_once above 1 needs max_attempts above 1: a worker dies of one of its studies")

    @property
    def database_url(self) -> str:
        """The database URL in force. A bare `postgresql://` gets the driver that is installed."""
        if not self.database:
            return f"sqlite:///{self.home / SQLITE_FILE}"
        return self.database.replace("postgresql://", "postgresql+psycopg://", 1)

    @property
    def lacks_database(self) -> bool:
        """Whether the embedded SQLite database has not been made yet."""
        return not self.database and not (self.home / SQLITE_FILE).is_file()

    @property
    def store_folder(self) -> Path | None:
        """The folder of the store; None: the store is a bucket."""
        if "://" in self.store:
            return None
        return Path(self.store).expanduser().absolute() if self.store else self.home / "store"

    @property
    def is_embedded(self) -> bool:
        """Whether the broker is our own child."""
        return not self.broker

    @property
    def broker_socket(self) -> Path:
        """The embedded broker's socket; beside the state folder's other files unless that path is too long for one."""
        socket = self.home / "broker" / "redis.sock"
        if len(os.fsencode(socket)) <= LONGEST_SOCKET_PATH:
            return socket
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"screening-{os.getuid()}-{name}" / "redis.sock"

    @property
    def broker_url(self) -> str:
        """The broker URL in force."""
        return self.broker or f"redis+socket://{self.broker_socket}"


def load() -> Settings:
    """The settings in force; raises BadSetting naming every fault at once."""
    return _load()[0]


def load_with_origins() -> list[tuple[str, Any, str, str]]:
    """Each setting as (name, value in force, where it came from, meaning); passwords in URLs are masked."""
    settings, origins = _load()
    return [
        (
            field.name,
            _shown(getattr(settings, field.name)),
            origins.get(field.name, "default"),
            field.metadata["meaning"],
        )
        for field in attrs.fields(Settings)
    ]


def names() -> list[str]:
    """The environment variables that are settings."""
    return [ENV_PREFIX + field.name.upper() for field in attrs.fields(Settings)]


def _load() -> tuple[Settings, dict[str, str]]:
    unknown = sorted(n for n in os.environ if n.startswith(ENV_PREFIX) and n not in {*names(), *OTHER_NAMES})
    file = os.environ.get("SCREENING_SETTINGS")
    if file and not Path(file).is_file():
        raise BadSetting(f"SCREENING_SETTINGS names {file}, and there is no such file")
    loaders: list[ts.Loader] = [
        ts.FileLoader({"*.toml": ts.TomlFormat("screening")}, [file or Path("screening.toml")]),
        ts.EnvLoader(ENV_PREFIX),
    ]
    from_file = _settings_in(Path(file or "screening.toml"))
    bounds = _out_of_bounds(from_file)
    faults = [*bounds, *(_no_such(name) for name in unknown)]
    try:
        settings = ts.load_settings(Settings, loaders)
    except ExceptionGroup as group:
        raise BadSetting("; ".join([*(_fault(error) for error in group.exceptions), *faults])) from group
    except (ts.exceptions.TsError, ValueError) as error:
        raise BadSetting("; ".join(faults if bounds else [_fault(error), *faults])) from error
    if faults:
        raise BadSetting("; ".join(faults))
    origins = {}
    for field in attrs.fields(Settings):
        if ENV_PREFIX + field.name.upper() in os.environ:
            origins[field.name] = ENV_PREFIX + field.name.upper()
        elif field.name in from_file:
            origins[field.name] = str(file or "screening.toml")
    return settings, origins


def _settings_in(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("screening", {})
    except ValueError as error:  # not TOML, or not UTF-8
        raise BadSetting(f"{path} cannot be read ({error}): correct it there") from error
    return {name.replace("-", "_"): value for name, value in table.items()} if isinstance(table, dict) else {}


def _out_of_bounds(from_file: dict[str, Any]) -> list[str]:
    """Every value that converts and is refused; the loader itself stops at the first of them."""
    faults = []
    for field in attrs.fields(Settings):
        raw = os.environ.get(ENV_PREFIX + field.name.upper(), from_file.get(field.name))
        if raw is None or field.validator is None or field.type is None:
            continue
        try:
            value = field.type(raw)
        except (TypeError, ValueError):
            continue  # the loader tells of it
        try:
            field.validator(None, field, value)
        except ValueError as error:
            faults.append(re.sub(rf"'?{field.name}'?", ENV_PREFIX + field.name.upper(), str(error.args[0])))
    return faults


def _fault(error: Exception) -> str:
    text = re.sub(r"option '(\w+)'", lambda m: ENV_PREFIX + m[1].upper(), str(error))
    text = re.sub(r"'\S*' is not a valid (\w+)", lambda m: f"it must be one of {_members(m[1])}", text)
    return " ".join(text.split())  # in one line


def _no_such(name: str) -> str:
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.85)
    return f"there is no setting {name}: " + (f"did you mean {near[0]}?" if near else "unset it, see `worker settings`")


def _members(enum: str) -> str:
    return ", ".join(globals()[enum])


def _shown(value: Any) -> Any:
    return re.sub(r"(://[^:/@]*:)[^@/]*@", r"\1***@", value) if isinstance(value, str) else value
