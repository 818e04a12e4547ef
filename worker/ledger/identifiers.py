"""How the ledger stores what identifies a patient: as received, or as keyed pseudonyms.

Each database keeps the mode of its first row, so that a changed setting cannot turn one patient into two.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache

from sqlalchemy import select, text

from schema import operations
from schema.database import Database
from schema.vocabulary import IdentifierMode
from worker.errors import IdentifiersDiffer
from worker.imaging.instance import Instance
from worker.ledger.intake.arrivals import Incoming, in_utf8, stored_path
from worker.ledger.pseudonyms import KEY_FILE, digest, load_key, pseudonym
from worker.ledger.schema_revision import require_head
from worker.ledger.transactions import reading, retried, writing
from worker.settings import Settings
from worker.store import open_store

#: Row of the table `identifiers`.
ONLY = 1

WORDS = {IdentifierMode.PLAIN: "as they came", IdentifierMode.PSEUDONYMS: "as pseudonyms"}

STARTED = text("SELECT 1 FROM arrival LIMIT 1")


@dataclass(frozen=True)
class IdentifierPolicy:
    """How identifiers are stored: with a key as pseudonyms, without one as received."""

    key: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "IdentifierPolicy":
        """The policy of the settings. Raises StorageUnavailable when its key cannot be read."""
        return cls(load_key(open_store(settings)) if settings.identifiers is IdentifierMode.PSEUDONYMS else None)

    def word(self, element: str, value: str | None) -> str | None:
        """The value of an element as stored; the same value in two elements gives two pseudonyms."""
        return value if self.key is None or not value else pseudonym(self.key, element, value)

    def path(self, path: str) -> str:
        """A file's path as stored. Each name in it gets its own pseudonym, so that folders stay distinct and a file is
        found by its name."""
        if self.key is None:
            return stored_path(path)
        folder, slash, name = in_utf8(path).rpartition("/")
        return stored_path(_hidden_folder(self.key, folder) + slash + _hidden(self.key, name))

    def name(self, element: str | None, typed: str) -> str:
        """What a person typed, as it would be stored if it is a value of this element, or a path."""
        if element is None:
            return typed
        return self.path(typed) if element == "path" else self.word(element, typed) or typed

    def header(self, header: Instance) -> Instance:
        """A header for the ledger. UIDs, dates and age are kept: they identify a study, or the model needs them."""
        if self.key is None:
            return header
        return replace(
            header,
            patient_id=self.word("patient_id", header.patient_id),
            issuer_of_patient_id=self.word("issuer_of_patient_id", header.issuer_of_patient_id),
            accession_number=self.word("accession_number", header.accession_number),
        )

    def file(self, file: Incoming) -> Incoming:
        """A file that was seen, for the ledger."""
        return file if self.key is None else replace(file, path=self.path(file.path))


PLAIN = IdentifierPolicy()


def _hidden(key: bytes, name: str) -> str:
    return pseudonym(key, "path", name) if name else ""


@lru_cache(maxsize=1024)  # a folder may hold a hundred thousand files, which come one after another
def _hidden_folder(key: bytes, folder: str) -> str:
    return "/".join(_hidden(key, name) for name in folder.split("/"))


def check_database(database: Database, settings: Settings, now: datetime) -> None:
    """Check this database against program and settings: its migration, then how it stores identifiers.

    A database without rows takes the mode of the settings. Raises SchemaOutdated, IdentifiersDiffer.
    """
    require_head(database)
    kept, kept_check, is_started = require_mode(database, settings.identifiers)
    check = _check(IdentifierPolicy.of(settings))
    if (kept, kept_check) == (settings.identifiers, check):
        return
    if is_started:
        raise IdentifiersDiffer(
            "is not the key of this database's pseudonyms: restore that key from the backup of the store, or set"
            " SCREENING_STORE to the store that contains it"
        ).about(f"{open_store(settings).name}/{KEY_FILE}")
    _note(database, settings.identifiers, check, now)


def require_mode(database: Database, wanted: IdentifierMode) -> tuple[IdentifierMode, str | None, bool]:
    """How this database keeps identifiers, the check value of its key, and whether it has rows; makes no key.

    Raises IdentifiersDiffer when its rows were written in another mode.
    """
    with reading(database) as connection:
        row = connection.execute(select(operations.Identifiers.kept_as, operations.Identifiers.key_check)).one_or_none()
        is_started = connection.execute(STARTED).first() is not None
    kept, kept_check = (IdentifierMode.PLAIN, None) if row is None else row
    if is_started and kept is not wanted:
        raise IdentifiersDiffer(
            f"this database keeps identifiers {WORDS[kept]}, SCREENING_IDENTIFIERS says {wanted}: existing rows are not"
            " rewritten, and new rows would not match them. Set it back, or begin with an empty database"
        )
    return kept, kept_check, is_started


@retried  # two processes may do this at the same time
def _note(database: Database, wanted: IdentifierMode, check: str | None, now: datetime) -> None:
    with writing(database) as session:
        row = session.get(operations.Identifiers, ONLY) or operations.Identifiers(id=ONLY)
        row.kept_as, row.key_check, row.since = wanted, check, now
        session.add(row)


def _check(policy: IdentifierPolicy) -> str | None:
    return None if policy.key is None else digest(policy.key, "key_check").hex()
