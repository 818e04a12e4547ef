"""The settings, with their defaults and limits. `worker.runtime.configuration` loads them."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from schema.setting_values import (
    AuditReads,
    InboxMode,
    Provider,
    RasterStudy,
    ReducedDecode,
    ReportClass,
    Retract,
    Reveal,
    SendVerdicts,
    Silent,
    StoreLink,
    UncertainReview,
    destination,
    hours,
    log_level_name,
    positive,
    redis_url,
    result_kinds,
    seconds,
    sqlite_file,
    store_place,
    whole,
)
from schema.vocabulary import IdentifierMode

DEFAULT_MODEL = Path(__file__).parent / "inference" / "models" / "efficientnet_lite0_lungs.onnx"

#: Longest decode of one image. The slowest codec takes one second for an image of the largest detector.
DECODER_DEADLINE_S = 60.0

#: Address space of a decoder child: 0.3 GiB for its libraries, and 1.8 (JPEG-LS) to 5.2 (JPEG 2000 in colour) bytes for
#: each byte of the decoded image.
DECODER_MEMORY_MIB = 4096

#: A Unix socket's path holds 107 bytes (sockaddr_un); longer state folders get their socket elsewhere.
LONGEST_SOCKET_PATH = 100


#: The embedded database, in the state folder.
SQLITE_FILE = "screening.sqlite"


def setting(default: Any, meaning: str, converter: Callable[[Any], Any] | None = None) -> Any:
    """A field with its explanation, shown by `worker settings`. The converter raises ValueError for a wrong value."""
    return attrs.field(default=default, converter=converter, metadata={"meaning": meaning})


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file. SQLAlchemy (2.1 on) decodes what is quoted."""
    try:
        return f"sqlite:///{quote(str(path))}"
    except UnicodeEncodeError:  # bytes that are not UTF-8 cannot be quoted for it
        return f"sqlite:///{path}"


@attrs.frozen(kw_only=True)
class Settings:
    """Every setting, with its unit in its name."""

    home: Path = setting(Path(".screening"), "folder of all state on the embedded default")
    database: str = setting("", "database URL; empty: SQLite in the state folder", sqlite_file)
    database_silence_s: float = setting(60.0, "a PostgreSQL that answers nothing for so long is not available", seconds)
    broker: str = setting("", "Redis URL; empty: a private Redis in the state folder", redis_url)
    store: str = setting(
        "", "folder, or s3://BUCKET/PREFIX, of received objects and overlays; empty: in the state folder", store_place
    )
    model: Path = setting(DEFAULT_MODEL, "model file")
    provider: Provider = setting(
        Provider.AUTO, "auto: CUDA where it binds, else the CPU; cpu; cuda: no start without it"
    )
    processes: int = setting(
        max(1, os.cpu_count() or 1), "worker processes of `worker screen` and `run`", positive(int)
    )
    studies_at_once: int = setting(1, "studies a worker process screens at a time, each with a decoder child; 1 to 16",
        whole(1, 16))  # fmt: skip

    inbox_mode: InboxMode = setting(
        InboxMode.MOVE,
        "what becomes of a file in the inbox that was taken in: move: it goes into the store; copy: it stays, and the"
        " store has a copy; leave: it stays, and is read there",
    )
    store_link: StoreLink = setting(
        StoreLink.AUTO, "auto: with inbox_mode=move, files become those of the store without a copy where they can; off"
    )
    raster_study: RasterStudy = setting(RasterStudy.FILE, "file: each PNG/JPEG is a study; folder: each subfolder is")
    scan_interval_s: float = setting(5.0, "time between two scans of the inbox", seconds)
    file_quiet_s: float = setting(10.0, "a file is settled after this time without change", seconds)
    truncated_after_s: float = setting(
        300.0, "an unchanged file that does not parse is quarantined after this time", seconds
    )
    study_quiet_s: float = setting(60.0, "a study is settled after this time without a new image", seconds)
    study_longest_wait_s: float = setting(900.0, "a study is settled after this time in any case", seconds)

    message_size: int = setting(
        16, "most studies in one routine message; a message never holds more than half a second of work", positive(int)
    )
    lease_s: float = setting(30.0, "a claim without a heartbeat lapses after this time", seconds)
    heartbeat_s: float = setting(10.0, "time between two heartbeats", seconds)
    max_attempts: int = setting(3, "workers that may die with a study before it is FAILED", positive(int))
    reoffer_after_s: float = setting(600.0, "a queued study is offered again after this time", seconds)
    result_due_s: float = setting(900.0, "a study without a result after this time needs attention", seconds)
    alarm_after_s: float = setting(1800.0, "`worker check` fails when a study waits longer for its result", seconds)
    overdue_after_h: float = setting(24.0, "a study that is unread after this time is overdue", hours)

    uncertain_review: UncertainReview = setting(
        UncertainReview.STAYS, "a study read as uncertain: stays on the list, marked, or leaves it"
    )
    silent: Silent = setting(
        Silent.OFF, "on: a silent run, flagged and not flagged studies share one band, oldest first, without verdicts"
    )
    reduced_decode: ReducedDecode = setting(
        ReducedDecode.ON,
        "on: compressed images are decoded at the resolution the model needs, if its card allows it; off: in full",
    )
    max_pixel_mib: int = setting(512, "largest decoded image; larger ones are rejected without decoding", positive(int))
    decoder_deadline_s: float = setting(DECODER_DEADLINE_S, "longest decode of one compressed image", seconds)
    decoder_memory_mib: int = setting(
        DECODER_MEMORY_MIB, "address space of the child process that decodes compressed images", positive(int)
    )
    min_free_mib: int = setting(512, "intake stops below this free space in the store", positive(int))
    store_quota_mib: int = setting(
        0,
        "most the store may hold: the watcher prunes what was read the longest ago, else intake stops; 0: no quota",
        whole(0),
    )

    nightly: str = setting("", "arguments for `worker batch`, which Celery beat starts every night; empty: none")

    metrics_host: str = setting("127.0.0.1", "address `worker metrics` listens on; there is no password")
    metrics_port: int = setting(9464, "port `worker metrics` listens on; 0: any", whole(0, 65535))
    metrics_interval_s: float = setting(15.0, "metrics are read again when they are older", seconds)
    metrics_scanners: int = setting(
        20, "scanners with their own metrics; 0: no text of a header in any metric", whole(0)
    )
    ae_title: str = setting("CHESTSCREENING", "our AE title, as receiver and as sender")
    ae_stat: str = setting("", "second called AE title of the receiver: studies sent to it are STAT; empty: none")
    receive_host: str = setting("127.0.0.1", "address `worker receive` listens on")
    receive_port: int = setting(11112, "port `worker receive` listens on; 0: any", whole(0, 65535))
    receive_from: str = setting(
        "", "who may send: AETITLE or AETITLE@ADDRESS, separated by commas; an address may be a network; empty: nobody"
    )
    receive_tls_certificate: str = setting("", "certificate file of the receiver; empty: no TLS")
    receive_tls_key: str = setting("", "its key file, if the key is not in the certificate file")
    receive_tls_clients: str = setting("", "file of CA certificates: then each sender needs a certificate")
    receive_metrics_port: int = setting(
        9465, "port for the receiver's own metrics, on SCREENING_METRICS_HOST; 0: any", whole(0, 65535)
    )

    send: str = setting(
        "",
        "where results are sent: AETITLE@HOST:PORT, or an outbox folder with a slash in it; empty: nowhere",
        destination,
    )
    results: str = setting("report", "what is sent: report, or report,overlay", result_kinds)
    send_verdicts: SendVerdicts = setting(
        SendVerdicts.SCREENED,
        "of which verdicts: flagged (silence then also means: could not be judged), or screened (all but ineligible);"
        " what failed, conflicts, or replaces a sent result is sent with either",
    )
    report_class: ReportClass = setting(
        ReportClass.COMPREHENSIVE_3D, "comprehensive_3d, or enhanced for archives that refuse it"
    )
    retract: Retract = setting(Retract.NONE, "iocm: a Key Object rejects the objects of an earlier revision; none: not")
    send_tls_ca: str = setting("", "file of CA certificates of the archive; empty: no TLS")
    send_tls_certificate: str = setting("", "our own certificate for the archive, with its key, if it asks for one")

    web_host: str = setting(
        "127.0.0.1", "address the page listens on; another than this machine's needs web_tls_... or web_behind_proxy"
    )
    web_port: int = setting(8464, "port the page listens on; 0: any", whole(0, 65535))
    web_hosts: str = setting(
        "localhost,127.0.0.1,[::1]", "names, separated by commas, under which people reach the page; others get 400"
    )
    web_tls_certificate: str = setting("", "file of the page's TLS certificate chain (PEM); empty: plain HTTP")
    web_tls_key: str = setting("", "file of its private key (PEM)")
    web_behind_proxy: str = setting(
        "", "addresses, separated by commas, of proxies that end TLS before the page; their X-Forwarded-For is believed"
    )
    web_trusted_header: str = setting("", "header in which a proxy names the account it has logged in; empty: none")
    web_trusted_from: str = setting("", "addresses, separated by commas, from which that header is believed")
    web_cache_mib: int = setting(64, "memory of the page for pictures that were decoded", positive(int))
    reveal: Reveal = setting(
        Reveal.ALWAYS, "when a reader sees what the model said: always, or after_verdict (of this reader)"
    )
    identifiers: IdentifierMode = setting(
        IdentifierMode.PLAIN,
        "how the database stores patient ID, issuer, accession number and paths: plain or pseudonyms",
    )
    audit_reads: AuditReads = setting(
        AuditReads.STUDIES, "which reads the audit records: none, studies (`worker show`) or lists (the worklist too)"
    )
    log_level: str = setting("INFO", "DEBUG, INFO, WARNING or ERROR", log_level_name)

    def __attrs_post_init__(self) -> None:
        """Make the state folder absolute: child processes may run elsewhere."""
        object.__setattr__(self, "home", self.home.expanduser().absolute())
        if faults := [rule.words(self) for rule in RULES if rule.is_broken(self)]:
            raise ValueError("; ".join(faults))

    @property
    def database_url(self) -> str:
        """The database URL in force. `postgresql://` without a driver gets the installed one."""
        if not self.database:
            return sqlite_url(self.home / SQLITE_FILE)
        return self.database.replace("postgresql://", "postgresql+psycopg://", 1)

    @property
    def lacks_database(self) -> bool:
        """Whether the embedded SQLite database has not been made yet."""
        return not self.database and not (self.home / SQLITE_FILE).is_file()

    @property
    def max_pixel_bytes(self) -> int:
        """The largest decoded image, in bytes."""
        return self.max_pixel_mib * 2**20

    @property
    def is_store_at_home(self) -> bool:
        """Whether the store lies in the state folder, as it does unless a setting names another place."""
        return self.store_folder is not None and self.store_folder.is_relative_to(self.home)

    @property
    def store_folder(self) -> Path | None:
        """The folder of the store; None: the store is a bucket."""
        if "://" in self.store:
            return None
        return Path(self.store).expanduser().absolute() if self.store else self.home / "store"

    @property
    def is_embedded(self) -> bool:
        """Whether the broker is a child process of this program."""
        return not self.broker

    @property
    def broker_socket(self) -> Path:
        """The embedded broker's socket; in the state folder, unless that path is too long for a socket, or no UTF-8."""
        socket = self.home / "broker" / "redis.sock"
        path = os.fsencode(socket)
        if len(path) <= LONGEST_SOCKET_PATH and path.decode(errors="replace") == str(socket):
            return socket
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"screening-{os.getuid()}-{name}" / "redis.sock"

    @property
    def broker_url(self) -> str:
        """The broker URL in force."""
        return self.broker or f"redis+socket://{quote(os.fsencode(self.broker_socket))}"


@dataclass(frozen=True)
class Rule:
    """What several settings must agree on."""

    names: tuple[str, ...]
    is_broken: Callable[[Settings], bool]
    words: Callable[[Settings], str]


RULES = (
    Rule(
        ("heartbeat_s", "lease_s"),
        lambda s: s.heartbeat_s * 2 > s.lease_s,
        lambda s: f"heartbeat_s ({s.heartbeat_s}) must be at most half of lease_s ({s.lease_s})",
    ),
    Rule(
        ("identifiers", "inbox_mode"),
        lambda s: s.identifiers is IdentifierMode.PSEUDONYMS and s.inbox_mode is InboxMode.LEAVE,
        lambda _: "identifiers=pseudonyms keeps no paths, inbox_mode=leave needs them: take copy or move",
    ),
    Rule(
        ("studies_at_once", "max_attempts"),
        lambda s: s.studies_at_once > 1 and s.max_attempts < 2,
        lambda _: "studies_at_once above 1 needs max_attempts above 1: one study may crash the worker of others",
    ),
)
