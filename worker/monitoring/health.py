"""Check everything that the worker depends on, one by one; each failure names the remedy."""

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.exc import DBAPIError

from schema.database import HEAD
from schema.setting_values import Silent
from worker.errors import DatabaseUnavailable, DeviceUnavailable, ModelRefused, ScreeningError
from worker.ledger.clocks import now
from worker.ledger.connect import unopened
from worker.ledger.database_clock import ComparedClock
from worker.ledger.identifiers import IdentifierPolicy, require_mode
from worker.ledger.intake import files
from worker.ledger.operations import device_failures
from worker.ledger.reading_room import accounts
from worker.ledger.schema_revision import require_head, revision
from worker.ledger.server_database import encoding_remark, require_writable
from worker.ledger.transactions import concerns_all
from worker.ledger.worklist.list_mode import is_silent_run
from worker.monitoring.inbox_watchers import check_watchers
from worker.monitoring.result_delivery import check_sending
from worker.runtime.file_events import file_events_fault
from worker.runtime.redis_server import redis_server
from worker.runtime.state_folder import make_home
from worker.settings import Settings
from worker.store import open_store
from worker.store.capacity import capacity_of
from worker.store.mounted_folders import NOT_MOUNTED, MountedFolders
from worker.worklist.underway import longest_wait_s

#: A failure of a device is reported for this time.
DEVICE_IS_SUSPECT = timedelta(minutes=15)

#: Checks one thing and returns a message; raises ScreeningError when the check fails.
Check = Callable[[Settings], str]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check."""

    what: str
    is_well: bool
    message: str
    value_s: float | None = None  #: measured value in seconds


def check(settings: Settings) -> list[CheckResult]:
    """One finding each for database, broker, model, provider, decoder, store, free disk, page and the longest wait;
    more where the database has a clock of its own, where there are no file events, where a share is not mounted,
    where watchers may share an inbox, and where results go to an archive."""
    try:
        database = CheckResult("database", True, _database(settings))
    except ScreeningError as error:
        database = _failed("database", error)
        if _is_away(error):  # each of the others that ask it would wait as long
            unasked = dict.fromkeys(("model", "provider", "page", "waiting"), _not_asked)
            return [database, *_found(settings, CHECKS | unasked), *_missing_events(settings), *_gone(settings)]
    watchers = [CheckResult("watchers", True, words) for words in check_watchers(settings)]
    around = [*check_clock(settings), *_missing_events(settings), *_unmounted(settings), *watchers, *_unsent(settings)]
    return [database, *_found(settings, CHECKS), *around, _waiting(settings)]


def check_readiness(settings: Settings) -> list[CheckResult]:
    """Whether a new study could be taken in and queued; cheap enough for a check every few seconds."""
    return _found(settings, {"database": _database, "broker": _broker, "disk": _disk})


def check_work(settings: Settings) -> list[CheckResult]:
    """Whether studies get their results in time."""
    return [_waiting(settings)]


def check_clock(settings: Settings, clock: Callable[[], datetime] = now) -> list[CheckResult]:
    """A finding where the database runs on a server: whether `clock` agrees with its."""
    if settings.lacks_database:
        return []
    with closing(unopened(settings)) as database:
        compared = ComparedClock(database, clock)
        if database.engine.dialect.name != "postgresql":
            return []
        try:
            compared()
        except ScreeningError:  # a finding of its own
            return []
    if compared.agrees:
        return [CheckResult("clock", True, "agrees with the database's", compared.offset_s)]
    words = (
        f"{abs(compared.offset_s):,.0f} s {'ahead of' if compared.offset_s > 0 else 'behind'} the database's: set both"
        " by NTP; until then times and waits that this machine writes or shows are wrong by as much"
    )
    return [CheckResult("clock", False, words, compared.offset_s)]


def _found(settings: Settings, checks: dict[str, Check]) -> list[CheckResult]:
    findings = []
    for what, check_one in checks.items():
        try:
            findings.append(CheckResult(what, True, check_one(settings)))
        except ScreeningError as error:
            findings.append(_failed(what, error))
    return findings


def _failed(what: str, error: ScreeningError) -> CheckResult:
    return CheckResult(what, False, f"{error} [{error.code}]")


def _is_away(error: ScreeningError) -> bool:
    """Whether the database itself failed. One that answers, but lacks a right or takes no writes, is asked further."""
    return isinstance(error.__cause__, DBAPIError) and concerns_all(error)


def _not_asked(_: Settings) -> str:
    raise DatabaseUnavailable("not known, because the database could not be asked")


def _database(settings: Settings) -> str:
    if settings.lacks_database:
        make_home(settings)
        return "SQLite, made at the first `worker screen`"
    database = unopened(settings)
    try:
        found = require_head(database)
        require_mode(database, settings.identifiers)
        remark = encoding_remark(database)
        require_writable(database)
        is_silent = is_silent_run(database, settings.silent is Silent.ON)
    finally:
        database.close()
    silence = "; silent run: the list shows no verdicts and is not sorted by them" if is_silent else ""
    return f"{database.engine.dialect.name}, migration {found}{silence}{'; ' if remark else ''}{remark}"


def _broker(settings: Settings) -> str:
    if settings.is_embedded:
        return f"private Redis, started when needed ({redis_server().name})"
    from worker.app import backlog, prove_broker_usable

    prove_broker_usable()
    return "Redis answers, " + ("its queue is empty" if backlog().is_empty else "its queue holds messages")


def _model(settings: Settings) -> str:
    from worker.inference.card import NO_AGES, NO_LIMIT
    from worker.inference.model import replay_goldens
    from worker.registry.registry import open_in_force

    opened, _, registry_state = open_in_force(settings, "cpu")
    replay_goldens(opened)
    for refusal in registry_state.refusals:
        if refusal.digest in (registry_state.active, registry_state.shadow):
            raise ModelRefused(
                f"refused by {refusal.decided_by} at {refusal.decided_at:%Y-%m-%d %H:%M} UTC, where the model before it"
                f" serves on: {refusal.reason}; mend that, or `worker model rollback`"
            ).about(refusal.digest)
    point = opened.card.operating_point
    found = f"{opened.card.name}, {opened.digest[:12]}, threshold {point.threshold:.4f}, goldens replayed"
    found += f", set at {opened.card.site.place}" if opened.card.site is not None else ""
    limit = opened.card.familiarity_limit
    found += f", familiarity limit {limit:g}" if limit is not None else f", {NO_LIMIT}"
    found += "" if opened.card.population.has_ages else f", {NO_AGES}"
    found += f", shadow {registry_state.shadow[:12]}" if registry_state.shadow else ""
    return found + (", promoted: SCREENING_MODEL no longer decides" if registry_state.is_chosen else "")


def _provider(settings: Settings) -> str:
    from worker.registry.registry import open_in_force

    bound = open_in_force(settings, str(settings.provider))[0].provider
    if not settings.lacks_database:
        database = unopened(settings)
        try:
            failure = device_failures.latest(database, now() - DEVICE_IS_SUSPECT)
        finally:
            database.close()
        if failure is not None:
            raise DeviceUnavailable(
                f"the device of {failure.worker} failed at {failure.failed_at:%Y-%m-%d %H:%M} UTC ({failure.message}):"
                " look at its driver (`nvidia-smi`), or set SCREENING_PROVIDER=cpu and restart the worker"
            )
    return bound


def _decoder(settings: Settings) -> str:
    from worker.decoding.decoder import Decoder

    with closing(Decoder.of(settings)) as decoder:
        decoder.prove()
    return f"starts, with {settings.decoder_memory_mib:,} MiB and {settings.decoder_deadline_s:g} s for an image"


def _missing_events(settings: Settings) -> list[CheckResult]:
    """A finding where the kernel gives no file events. All is well without them, but somewhat later."""
    make_home(settings)
    fault = file_events_fault(settings.home)
    if fault is None:
        return []
    words = f"none ({fault}); the watcher scans every {settings.scan_interval_s:g} s all the same, and misses nothing"
    return [CheckResult("events", True, words)]


def _unmounted(settings: Settings) -> list[CheckResult]:
    """A finding for each share of an inbox or a store that is gone: its mount point looks like an empty folder, or is
    gone too, while files below it were last seen waiting."""
    awaited = _awaited(settings, MountedFolders(settings.home).absent())
    return [*_gone(settings), *[CheckResult("mount", False, f"{path}: {NOT_MOUNTED}") for path in awaited]]


def _gone(settings: Settings) -> list[CheckResult]:
    """A finding for each mount point that looks like an empty folder."""
    return [CheckResult("mount", False, f"{path}: {NOT_MOUNTED}") for path in MountedFolders(settings.home).gone()]


def _awaited(settings: Settings, folders: list[str]) -> list[str]:
    """Those of the folders below which files wait, by the ledger."""
    if not folders or settings.lacks_database:
        return []
    spelled = IdentifierPolicy.of(settings).path
    with closing(unopened(settings)) as database:
        try:
            return [folder for folder in folders if files.wait_below(database, spelled(f"{folder}{os.sep}"))]
        except ScreeningError:  # a finding of its own
            return []


def _store(settings: Settings) -> str:
    store = open_store(settings)
    store.prove_writable()
    return store.name


def _disk(settings: Settings) -> str:
    return capacity_of(settings).require(settings, open_store(settings), now())


def _page(settings: Settings) -> str:
    """Whether the settings expose the page's traffic, and whether there is an account."""
    from worker.web.network_exposure import check_exposure, is_installed

    if not is_installed():
        return "not installed (extra `web`)"
    how = check_exposure(settings)
    if settings.lacks_database:
        return f"{how}; no account yet"
    database = unopened(settings)
    try:
        if revision(database) != HEAD:
            return how
        n = accounts.count(database)
    finally:
        database.close()
    return f"{how}; {n} {'account' if n == 1 else 'accounts'}" if n else f"{how}; no account yet: `worker user add`"


def _unsent(settings: Settings) -> list[CheckResult]:
    """Whether results reach the archive, where one is named."""
    found = check_sending(settings)
    return [] if found is None else [CheckResult("results", *found)]


def _waiting(settings: Settings) -> CheckResult:
    """Whether a study waits too long for its result, for any cause: a worker may take no message (celery#8030)."""
    if settings.lacks_database:
        return CheckResult("waiting", True, "no study yet", 0.0)
    database = unopened(settings)
    try:
        waited_s = longest_wait_s(database, now())
    except ScreeningError as error:
        return _failed("waiting", error)
    finally:
        database.close()
    found = f"the oldest study without a result has waited {waited_s:,.0f} s" if waited_s else "no study waits"
    if waited_s <= settings.alarm_after_s:
        return CheckResult("waiting", True, found, waited_s)
    remedy = f"longer than SCREENING_ALARM_AFTER_S ({settings.alarm_after_s:,.0f}): see that watcher and workers run"
    return CheckResult("waiting", False, f"{found}, {remedy}, and what their logs say", waited_s)


#: What `check` asks of everything but the database.
CHECKS: dict[str, Check] = {
    "broker": _broker,
    "model": _model,
    "provider": _provider,
    "decoder": _decoder,
    "store": _store,
    "disk": _disk,
    "page": _page,
}
