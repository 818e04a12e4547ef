"""The broker of a running installation: a STAT study overtakes a backlog, and workers reconnect after it died."""

import os
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import redis
from sqlalchemy import insert, text

from schema import models
from schema.database import Database
from tests.acceptance.installation import QUICK, SAMPLES, Installation, celery, events, production, wait_until
from tests.backlog import STUDIES, study_rows
from tests.phantoms import STUDY_UID, dicom_file, picture
from worker.runtime.children import child
from worker.runtime.redis_server import PrivateBroker
from worker.settings import Settings

pytestmark = pytest.mark.parametrize("kind", ["postgresql"])

#: Settings under which a message is thought lost so soon that a healthy backlog would be offered again, if it were; no
#: worker dies here, so no claim lapses, however late a busy machine lets a heartbeat come.
HASTY = {**QUICK, "SCREENING_REOFFER_AFTER_S": "0.5", "SCREENING_LEASE_S": "1200"}


@pytest.fixture
def broker(settings: Settings) -> Iterator[PrivateBroker]:
    private = PrivateBroker(settings)
    private.start()
    yield private
    private.stop()


@pytest.fixture
def client(broker: PrivateBroker) -> Iterator["redis.Redis"]:
    connection = redis.Redis(unix_socket_path=str(broker.settings.broker_socket))
    yield connection
    connection.close()


@pytest.fixture
def site(database_url: str, broker: PrivateBroker, tmp_path: Path) -> Installation:
    urls = {"SCREENING_DATABASE": database_url, "SCREENING_BROKER": broker.settings.broker_url}
    return Installation(tmp_path / "home", {**HASTY, **urls})


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox" / "stat").mkdir(parents=True)
    return tmp_path / "inbox"


def state(database: Database, study_uid: str) -> str | None:
    with database.reading() as connection:
        statement = text("SELECT state FROM study WHERE study_uid = :uid")
        return connection.execute(statement, {"uid": study_uid}).scalar_one_or_none()


@pytest.mark.slow
def test_a_stat_study_overtakes_a_backlog_of_ten_thousand_that_is_offered_once(
    site: Installation, database: Database, client: "redis.Redis", inbox: Path, tmp_path: Path
) -> None:
    """The backlog's studies have no images: they cost a claim and a row each."""
    with database.writing() as session:
        session.execute(insert(models.Study), list(study_rows(STUDIES, datetime.now(UTC))))
    messages = STUDIES // 5
    with child(site.command("watch", inbox), tmp_path / "watch.log", 30, site.environment()):
        wait_until(lambda: client.llen("routine") == messages, 90)
        (inbox / "stat" / "urgent.dcm").write_bytes(dicom_file(picture()))
        wait_until(lambda: client.llen("stat") == 1, 60)  # it took several sweeps to come here
        assert client.llen("routine") == messages, "a healthy backlog is not offered twice"
        log = tmp_path / "celery.log"
        with child(celery(), log, 30, site.environment()):
            wait_until(lambda: state(database, STUDY_UID) == "screened", 90)
            assert client.llen("routine") > 0, "it did not wait for the backlog"
    claimed = [event["study_uid"] for event in events(log) if event["event"] == "study_claimed"]
    assert claimed[0] == STUDY_UID


@pytest.mark.slow
def test_a_worker_goes_on_after_its_broker_died(
    site: Installation, database: Database, broker: PrivateBroker, client: "redis.Redis", inbox: Path, tmp_path: Path
) -> None:
    """celery#8030: connected again, and consuming nothing."""

    def screens(name: str) -> None:
        before = count(database)
        shutil.copy(SAMPLES / name, inbox)
        wait_until(lambda: count(database) == before + 1, 90)

    with production(site, inbox, tmp_path) as running:
        screens("clara_jpegls.dcm")
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
        shutil.copy(SAMPLES / "ida_8_bit.png", inbox)
        wait_until(lambda: any(e["event"] == "outage" for e in events(tmp_path / "watch.log")), 60)
        broker.revive()
        wait_until(lambda: count(database) == 2, 90)
        client.flushall()
        broker.stop()
        broker.start()
        screens("klara_native.jpeg")
        assert [process.poll() for process in running.values()] == [None, None], "nobody had to be started again"


@pytest.mark.slow
@pytest.mark.timeout(1800)  # sixty images take a starved worker minutes
def test_a_worker_goes_on_whose_broker_died_while_it_worked(
    site: Installation, database: Database, broker: PrivateBroker, client: "redis.Redis", inbox: Path, tmp_path: Path
) -> None:
    """Its message cannot be acknowledged and fills the prefetch count: then kombu reads no other message."""
    for number in range(1, 61):  # a study of a second or two
        pixels = np.roll(picture(), number, 1)
        (inbox / f"{number}.dcm").write_bytes(dicom_file(pixels, SOPInstanceUID=f"{STUDY_UID}.{number}"))
    log = tmp_path / "celery.log"
    with production(site, inbox, tmp_path) as running:
        wait_until(lambda: any(e["event"] == "study_claimed" for e in events(log)), 90)
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
        wait_until(lambda: any(e["event"] == "study_screened" for e in events(log)), 240)
        broker.revive()
        shutil.copy(SAMPLES / "ida_8_bit.png", inbox)
        wait_until(lambda: count(database) >= 2, 120)
        assert running["celery"].poll() is None


def count(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM screening")).scalar_one())
