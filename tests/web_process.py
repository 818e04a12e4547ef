"""The page as a process of its own on an installation, with accounts."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from schema.database import Database
from schema.vocabulary import Role
from tests.acceptance.installation import Installation, wait_until
from tests.reading_room import PASSWORD_HASH
from worker.ledger.reading_room import accounts
from worker.runtime.children import child

ACCOUNTS = {"ann": Role.READER, "ben": Role.READER, "olga": Role.OPERATOR, "ada": Role.ADMIN}


def database_of(site: Installation) -> Database:
    """The embedded database of an installation."""
    return Database(f"sqlite:///{site.home / 'screening.sqlite'}")


def add_accounts(site: Installation) -> None:
    """Two readers, an operator and an admin, all with the password PASSWORD."""
    with closing(database_of(site)) as database:
        for name, role in ACCOUNTS.items():
            accounts.add(database, name, role, PASSWORD_HASH, "test", datetime.now(UTC))


@contextmanager
def serving(site: Installation, log: Path) -> Iterator[str]:
    """`worker web` on a free port, until the block ends; its address."""
    environment = {"SCREENING_WEB_PORT": "0", **site.environment()}
    begins_at = log.stat().st_size if log.exists() else 0
    with child(site.command("web"), log, 30, environment) as process:

        def said() -> "re.Match[bytes] | None":
            assert process.poll() is None, log.read_text()
            return re.search(rb"(https?)://[^ ]*:(\d+)/", log.read_bytes()[begins_at:])

        wait_until(lambda: said() is not None, 60)
        found = said()
        assert found is not None
        yield f"{found[1].decode()}://127.0.0.1:{found[2].decode()}"
