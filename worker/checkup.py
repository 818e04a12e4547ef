"""Looks at everything the worker depends on, each by itself, and names the remedy of what is not well."""

from collections.abc import Callable
from dataclasses import dataclass

from schema.database import HEAD
from worker import home
from worker.errors import BrokerUnavailable, SchemaOutdated, ScreeningError, StorageUnavailable
from worker.ledger.opening import revision, unopened
from worker.settings import Settings
from worker.store import Store


@dataclass(frozen=True)
class Finding:
    """One line of the check-up."""

    what: str
    is_well: bool
    message: str


def check(settings: Settings) -> list[Finding]:
    """One finding each for database, broker, model, provider, store and free disk."""
    looks: dict[str, Callable[[Settings], str]] = {
        "database": _database,
        "broker": _broker,
        "model": _model,
        "provider": _provider,
        "store": _store,
        "disk": _disk,
    }
    findings = []
    for what, look in looks.items():
        try:
            findings.append(Finding(what, True, look(settings)))
        except ScreeningError as error:
            findings.append(Finding(what, False, f"{error} [{error.code}]"))
    return findings


def _database(settings: Settings) -> str:
    if not settings.database and not (settings.home / "screening.sqlite").exists():
        return "SQLite, made at the first `worker screen`"
    database = unopened(settings)
    found = revision(database)
    if found != HEAD:
        raise SchemaOutdated(f"at {found or 'no migration'}, this program needs {HEAD}: run `worker db upgrade`")
    return f"{database.engine.dialect.name}, migration {found}"


def _broker(settings: Settings) -> str:
    if settings.is_embedded:
        return f"private Redis, started when needed ({home.redis_server().name})"
    from worker.app import is_queue_empty

    try:
        return "Redis answers, " + ("its queue is empty" if is_queue_empty() else "its queue holds messages")
    except BrokerUnavailable as error:
        raise BrokerUnavailable(f"{error.message}: start it, or correct SCREENING_BROKER") from error


def _model(settings: Settings) -> str:
    from worker.model import open_model, replay_goldens

    opened = open_model(settings.model, provider="cpu")
    replay_goldens(opened)
    card = opened.card
    return f"{card.name}, {opened.digest[:12]}, threshold {card.operating_point.threshold:.4f}, goldens replayed"


def _provider(settings: Settings) -> str:
    from worker.model import open_model

    return open_model(settings.model, provider=str(settings.provider)).provider


def _store(settings: Settings) -> str:
    store = Store(settings.store_folder)
    probe = store.put("objects", b"chest-screening: the store can be written\n")
    store.get("objects", probe)
    return str(settings.store_folder)


def _disk(settings: Settings) -> str:
    free = Store(settings.store_folder).free_mib()
    if free < settings.min_free_mib:
        raise StorageUnavailable(f"{free:,.0f} MiB free, intake stops below {settings.min_free_mib}: make room")
    return f"{free:,.0f} MiB free"
