"""What every page works with: settings, database, store, decoder, clock and caches, opened once."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schema.database import Database
from schema.setting_values import Reveal, Silent
from worker.decoding.pool import DecoderPool
from worker.imaging.limits import Limits
from worker.ledger.clocks import now
from worker.ledger.connect import open_existing
from worker.ledger.identifiers import IdentifierPolicy
from worker.ledger.worklist.list_mode import is_silent_run
from worker.settings import Settings
from worker.store import Store, open_store
from worker.web.addresses import addresses, listed
from worker.web.cache import Bounded
from worker.web.network_exposure import is_over_tls

#: How long a search can be shown again, and how many are remembered.
SEARCH_LASTS = timedelta(minutes=20)
SEARCHES = 2_000

#: Thumbnails that are kept, and fetched pictures that are remembered for the audit.
THUMBNAILS, FETCHED = 2_000, 50_000

#: How often the page looks whether a silent run has begun or ended.
LOOKS_EVERY_S = 5.0

#: Pictures that are decoded at a time.
AT_A_TIME = 2

#: Locks for the pictures that are decoded, so that one which is asked for several times at once is decoded once.
LOCKS = 64

#: In place of a session, for links that were followed before the log-in.
NOBODY = 0


@dataclass(frozen=True)
class Search:
    """What somebody searched for; it may identify a patient, so it is in no URL."""

    words: str
    session_id: int
    until: datetime


@dataclass
class PageContext:
    """One running page."""

    settings: Settings
    database: Database
    store: Store
    decoder: DecoderPool
    clock: Callable[[], datetime] = now
    searches: Bounded[Search] = field(default_factory=lambda: Bounded(SEARCHES))
    openings: Bounded[Search] = field(default_factory=lambda: Bounded(SEARCHES))  #: of links, before the log-in
    thumbnails: Bounded[bytes] = field(default_factory=lambda: Bounded(THUMBNAILS))
    fetched: Bounded[bool] = field(default_factory=lambda: Bounded(FETCHED))
    polls: Bounded[tuple[str, str]] = field(default_factory=lambda: Bounded(SEARCHES))  #: session -> signature, ETag
    looks_at: float = 0.0  #: when the context looks next whether the list is in a silent run
    decoding: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AT_A_TIME))

    def __post_init__(self) -> None:
        """Read what the settings list."""
        self.hosts = frozenset(listed(self.settings.web_hosts))
        self.proxies = addresses("web_behind_proxy", self.settings.web_behind_proxy)
        self.trusted = addresses("web_trusted_from", self.settings.web_trusted_from)
        self.is_over_tls = is_over_tls(self.settings)
        self.limits = Limits(max_pixel_bytes=self.settings.max_pixel_bytes)
        self.identifiers = IdentifierPolicy.of(self.settings)
        self._locks = [threading.Lock() for _ in range(LOCKS)]
        self.pictures: Bounded[bytes] = Bounded(self.settings.web_cache_mib * 2**20, len)

    @classmethod
    def open(cls, settings: Settings) -> "PageContext":
        """The page of an installation; raises NoHome and what `open_existing` raises."""
        return cls(settings, open_existing(settings), open_store(settings), DecoderPool.of(settings))

    def close(self) -> None:
        """End the decoder children and close the database."""
        self.decoder.close()
        self.database.close()

    def follow_silent_run(self) -> None:
        """Learn every LOOKS_EVERY_S whether the list is in a silent run; watchers place it as their setting says."""
        if time.monotonic() >= self.looks_at:
            self.looks_at = time.monotonic() + LOOKS_EVERY_S
            self.database.is_silent_run = is_silent_run(self.database, self.settings.silent is Silent.ON)

    @property
    def hides_model(self) -> bool:
        """Whether a reader sees what the model said only after a verdict."""
        return self.settings.reveal is Reveal.AFTER_VERDICT

    def one_at_a_time(self, digest: str) -> threading.Lock:
        """A lock for pictures of this digest; a few others share it."""
        return self._locks[hash(digest) % len(self._locks)]

    def remember(self, words: str, session_id: int = NOBODY) -> str:
        """A short-lived token for words that no URL may have, for the session that said them."""
        token = secrets.token_urlsafe(12)
        self._kept(session_id).put(token, Search(words, session_id, self.clock() + SEARCH_LASTS))
        return token

    def recall(self, token: str, session_id: int = NOBODY) -> str | None:
        """The words of a token; None when it is over, or another session's."""
        found = self._kept(session_id).get(token)
        if found is None or found.session_id != session_id or found.until < self.clock():
            return None
        return found.words

    def _kept(self, session_id: int) -> Bounded[Search]:
        """Searches by session. Those made before the log-in are kept apart, so that they cannot push out the others."""
        return self.openings if session_id == NOBODY else self.searches
