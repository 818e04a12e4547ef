"""Several installations on one database: none takes another's claims back, and private brokers work alone."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
from sqlalchemy import text

from schema.database import Database
from tests.acceptance.installation import QUICK, Installation, wait_until
from tests.ledger import STUDY, Ledger, claim_one
from worker.errors import DatabaseShared, DatabaseUnavailable
from worker.ledger.offering_lock import offering
from worker.ledger.screening import claims
from worker.runtime.children import child
from worker.runtime.state_folder import make_home, owner_of_claims
from worker.settings import Settings


@pytest.fixture
def homes(tmp_path: Path, database_url: str) -> list[Settings]:
    """Two state folders."""
    found = [Settings(home=tmp_path / name, database=database_url) for name in ("one", "two")]
    for settings in found:
        make_home(settings)
    return found


def test_only_ones_own_claims_are_taken_back(desk: Ledger, homes: list[Settings]) -> None:
    ours, theirs = homes
    desk.receive()
    desk.offer()
    held = claim_one(desk.database, STUDY, theirs, desk.clock())
    assert held is not None
    for _ in range(desk.settings.max_attempts + 1):
        claims.recover(desk.database, ours, desk.clock.forward(1))
        assert (desk.study().state, desk.study().attempts, desk.study().claim) == ("screening", 1, held.token)
    assert desk.record(held, 0.9)
    assert desk.entry().verdict == "flagged"


def test_ones_own_claims_are_taken_back_at_once(desk: Ledger, homes: list[Settings]) -> None:
    desk.receive()
    desk.offer()
    assert claim_one(desk.database, STUDY, homes[0], desk.clock()) is not None
    claims.recover(desk.database, homes[0], desk.clock.forward(1))
    assert (desk.study().state, desk.study().offered_at) == ("queued", None)


def test_what_others_queued_keeps_its_message(desk: Ledger, homes: list[Settings]) -> None:
    desk.receive()
    desk.offer()
    before = desk.study().offered_at
    claims.recover(desk.database, homes[0], desk.clock.forward(1))
    assert desk.study().offered_at == before
    claims.recover(desk.database, attrs.evolve(homes[0], database=""), desk.clock())
    assert desk.study().offered_at is None, "in the state folder there is nobody else"


def test_a_copied_state_folder_is_another_owner(tmp_path: Path) -> None:
    first, second = (Settings(home=tmp_path / name) for name in ("first", "second"))
    make_home(first)
    assert owner_of_claims(first) == owner_of_claims(first)
    shutil.copytree(first.home, second.home)
    make_home(second)
    assert owner_of_claims(first) != owner_of_claims(second)
    moved = attrs.evolve(first, home=first.home.rename(tmp_path / "moved"))
    assert owner_of_claims(moved) != owner_of_claims(second)


def test_a_private_broker_works_alone(database: Database, homes: list[Settings]) -> None:
    ours, theirs = homes
    common = attrs.evolve(theirs, broker="redis://queue/0")
    with offering(database, ours):
        for other in (theirs, common):
            with pytest.raises(DatabaseShared, match="SCREENING_BROKER"), offering(database, other):
                pass
    with (
        offering(database, common),
        offering(database, common),
        pytest.raises(DatabaseShared, match="SCREENING_STORE"),
        offering(database, ours),
    ):
        pass
    with offering(database, ours), offering(database, Settings(home=ours.home)):
        pass  # its own database is nobody else's


def end_connections(database: Database) -> None:
    """As a PostgreSQL that restarts: every connection that holds a lock of ours is gone."""
    held = "SELECT pid FROM pg_locks WHERE locktype = 'advisory'"
    with database.engine.connect() as connection:
        ended = connection.execute(text(f"SELECT pg_terminate_backend(pid, 60000) FROM ({held}) AS held")).scalars()
        assert list(ended) == [True]


@pytest.mark.parametrize("kind", ["postgresql"])
def test_the_lock_is_taken_again_when_postgresql_has_restarted(database: Database, homes: list[Settings]) -> None:
    ours, theirs = homes
    with offering(database, ours) as right:
        right.every_s = 0.0
        right.keep()
        end_connections(database)
        right.keep()
        with pytest.raises(DatabaseShared), offering(database, theirs):
            pass


@pytest.mark.parametrize("kind", ["postgresql"])
def test_who_finds_the_lock_taken_after_a_restart_stops(database: Database, homes: list[Settings]) -> None:
    ours, theirs = homes
    with offering(database, ours) as right:
        right.every_s = 0.0
        end_connections(database)
        with offering(database, theirs), pytest.raises(DatabaseShared, match="another installation works on this"):
            right.keep()
        right.keep()
        with pytest.raises(DatabaseShared), offering(database, theirs):
            pass


@contextmanager
def running(site: Installation, inbox: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`worker run`, once it watches."""
    inbox.mkdir()
    log = inbox.with_suffix(".log")
    with child(site.command("run", inbox), log, 60, site.environment()) as process:
        wait_until(lambda: "watching" in log.read_text(), 60)
        yield process


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_lock_that_cannot_be_written_is_named(database: Database, homes: list[Settings]) -> None:
    lock = Path(f"{database.engine.url.database}.offering")
    lock.mkdir()
    with pytest.raises(DatabaseUnavailable, match="file that locks it cannot be written"), offering(database, homes[0]):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_second_home_with_a_private_broker_is_refused_until_the_first_is_gone(
    tmp_path: Path, database_url: str
) -> None:
    first, second = (
        Installation(tmp_path / name, {**QUICK, "SCREENING_DATABASE": database_url}) for name in ("1", "2")
    )
    sample = Path("tests/data/inbox/ida_8_bit.png")
    command = second.command("screen", sample)
    with running(first, tmp_path / "inbox"):
        done = subprocess.run(command, env=second.environment(), capture_output=True, text=True, check=False)
        assert (done.returncode, "[database_shared]" in done.stderr) == (1, True), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    first.json("screen", sample)
    done = subprocess.run(command, env=second.environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, "SCREENING_STORE" in done.stderr) == (1, True), done.stderr
    common = Installation(second.home, {**second.settings, "SCREENING_STORE": str(first.home / "store")})
    (row,) = common.json("screen", sample)
    assert row["state"] == "screened"
