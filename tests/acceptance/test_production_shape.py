"""Redis and PostgreSQL by URL, with watcher and Celery worker as separate processes."""

import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import redis
from sqlalchemy import text

from schema.database import Database
from tests.acceptance.installation import QUICK, SAMPLES, Installation, production, wait_until
from worker.ledger.screening.outbox import QUEUES
from worker.runtime.broker_rights import KEYS, ON_A_QUEUE, ON_OTHERS
from worker.settings import Settings

pytestmark = pytest.mark.parametrize("kind", ["postgresql"])  # the embedded SQLite: test_survival


@pytest.fixture
def site(empty_url: str, broker: Settings, tmp_path: Path) -> Installation:
    urls = {"SCREENING_DATABASE": empty_url, "SCREENING_BROKER": broker.broker_url}
    return Installation(tmp_path / "home", {**QUICK, **urls})


@pytest.mark.slow
def test_watcher_and_celery_worker_share_broker_and_database(
    site: Installation, empty_url: str, broker: Settings, tmp_path: Path
) -> None:
    assert "worker db upgrade" in refused(site)
    site.run("db", "upgrade")
    grant(broker, *every_right())
    inbox = tmp_path / "inbox"
    (inbox / "stat").mkdir(parents=True)
    with production(site, inbox, tmp_path):
        shutil.copy(SAMPLES / "ida_8_bit.png", inbox / "routine.png")
        shutil.copy(SAMPLES / "clara_jpegls.dcm", inbox / "stat" / "urgent.dcm")
        wait_until(lambda: screened(empty_url) == 2, 90)
    first, second = site.json("worklist")
    assert (first["priority"], first["band"], second["priority"]) == ("stat", 1, "routine")
    assert Path(first["heatmap"]).is_file()
    assert not list(inbox.rglob("*.*")), "booked files are taken out of the inbox"
    assert all(result["is_well"] for result in site.json("check"))
    assert site.json("reconcile")["holds"]
    grant(broker, "-brpop")
    (found,) = [result for result in site.json("check", code=1) if not result["is_well"]]
    assert "`ACL SETUSER default +brpop`" in found["message"]


def grant(broker: Settings, *rules: str) -> None:
    """Change the rights of everybody who asks this broker without a name."""
    with redis.Redis(unix_socket_path=str(broker.broker_socket)) as client:
        client.execute_command("ACL", "SETUSER", "default", *rules)


def every_right() -> list[str]:
    """The rules for an account that has what `worker check` asks for, what every client needs, and no more."""
    needed = {command.lower() for command, *_ in (*ON_A_QUEUE, *ON_OTHERS)} | {"multi", "exec", "acl|setuser"}
    commands = needed | {"hello", "select", "client|setinfo"}
    keys = [f"~{queue}*" for queue in QUEUES] + [f"~{key}" for key in KEYS]
    return ["-@all", *(f"+{command}" for command in commands), "resetkeys", *keys]


def screened(url: str) -> int:
    """Studies with a verdict, counted by SQL: a process a question would take the cores from the worker."""
    with closing(Database(url)) as database, database.reading() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM study WHERE state = 'screened'")).scalar_one())


def refused(site: Installation) -> str:
    """What the program says of a database without tables."""
    done = subprocess.run(site.command("worklist"), capture_output=True, text=True, env=site.environment(), check=False)
    assert done.returncode == 1
    return done.stderr
