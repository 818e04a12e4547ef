"""How the ledger spells what identifies a patient: as it came, or as keyed pseudonyms.

One database keeps one way, for its first row decides: a patient must not be two because a setting was changed.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache

from sqlalchemy import select, text

from schema import models
from schema.database import Database
from schema.vocabulary import IdentifierMode
from worker.errors import IdentifiersDiffer
from worker.imaging.instance import Instance
from worker.ledger.arrivals import Incoming, in_utf8, spelled
from worker.ledger.pseudonyms import KEY_FILE, digest, load_key, pseudonym
from worker.ledger.revision import require_head
from worker.ledger.transactions import reading, retried, writing
from worker.settings import Settings
from worker.store import open_store

#: Row of the table `identifiers`.
ONLY = 1

WORDS = {IdentifierMode.PLAIN: "as they came", IdentifierMode.PSEUDONYMS: "as pseudonyms"}

STARTED = text("SELECT 1 FROM arrival LIMIT 1")


@dataclass(frozen=True)
class Spelling:
    """Without a key everything is spelled as it came."""

    key: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "Spelling":
        """The spelling that the settings ask for. Raises StorageUnavailable when its key cannot be had."""
        return cls(load_key(open_store(settings)) if settings.identifiers is IdentifierMode.PSEUDONYMS else None)

    def word(self, element: str, value: str | None) -> str | None:
        """The value of an element; two elements of one value have two pseudonyms."""
        return value if self.key is None or not value else pseudonym(self.key, element, value)

    def path(self, path: str) -> str:
        """A file's path. Each name in it by itself, so that folders are still told and a file is found by its name."""
        if self.key is None:
            return spelled(path)
        folder, slash, name = in_utf8(path).rpartition("/")
        return spelled(_hidden_folder(self.key, folder) + slash + _hidden(self.key, name))

    def name(self, element: str | None, typed: str) -> str:
        """What a person typed, as it stands in rows if it is a value of this element, or a path."""
        if element is None:
            return typed
        return self.path(typed) if element == "path" else self.word(element, typed) or typed

    def header(self, header: Instance) -> Instance:
        """A header as the ledger gets it. UIDs, dates and age stay: they find a study back, or the model needs them."""
        if self.key is None:
            return header
        return replace(
            header,
            patient_id=self.word("patient_id", header.patient_id),
            issuer_of_patient_id=self.word("issuer_of_patient_id", header.issuer_of_patient_id),
            accession_number=self.word("accession_number", header.accession_number),
        )

    def file(self, file: Incoming) -> Incoming:
        """A file that was seen, as the ledger gets it."""
        return file if self.key is None else replace(file, path=self.path(file.path))


PLAIN = Spelling()


def _hidden(key: bytes, name: str) -> str:
    return pseudonym(key, "path", name) if name else ""


@lru_cache(maxsize=1024)  # files of one folder come in a row, by the hundred thousand
def _hidden_folder(key: bytes, folder: str) -> str:
    return "/".join(_hidden(key, name) for name in folder.split("/"))


def agree(database: Database, settings: Settings, now: datetime) -> None:
    """Hold program and setting against this database: its migration, then the way it keeps identifiers.

    One without rows takes the setting's way. Raises SchemaOutdated, IdentifiersDiffer.
    """
    require_head(database)
    wanted, check = settings.identifiers, _check(Spelling.of(settings))
    with reading(database) as connection:
        row = connection.execute(select(models.Identifiers.kept_as, models.Identifiers.key_check)).one_or_none()
        is_started = connection.execute(STARTED).first() is not None
    kept, kept_check = (IdentifierMode.PLAIN, None) if row is None else row
    if (kept, kept_check) == (wanted, check):
        return
    if not is_started:
        _note(database, wanted, check, now)
    elif kept is not wanted:
        raise IdentifiersDiffer(
            f"this database keeps identifiers {WORDS[kept]}, SCREENING_IDENTIFIERS says {wanted}: rows that are there"
            " are not rewritten, and new ones would not be recognised beside them. Set it back, or begin with an empty"
            " database"
        )
    else:
        raise IdentifiersDiffer(
            "is not the key of this database's pseudonyms: bring that one back from the backup of the store, or set"
            " SCREENING_STORE to the store that it lies in"
        ).about(f"{open_store(settings).name}/{KEY_FILE}")


@retried  # two processes may be the first
def _note(database: Database, wanted: IdentifierMode, check: str | None, now: datetime) -> None:
    with writing(database) as session:
        row = session.get(models.Identifiers, ONLY) or models.Identifiers(id=ONLY)
        row.kept_as, row.key_check, row.since = wanted, check, now
        session.add(row)


def _check(spelling: Spelling) -> str | None:
    return None if spelling.key is None else digest(spelling.key, "key_check").hex()
