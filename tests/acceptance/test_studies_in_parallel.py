"""A queue worker that takes four studies of a message at a time, on PostgreSQL and Redis, with an outage for one."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from schema.database import Database
from tests.acceptance.installation import Installation, celery, events, wait_until
from tests.brightness_model import write_image, write_model
from worker.intake.folder_scan import files_in
from worker.intake.ingest import Intake
from worker.ledger.clocks import now
from worker.ledger.screening import outbox
from worker.runtime.children import child
from worker.settings import Settings
from worker.store import OBJECTS
from worker.store.folder import FolderStore

STUDIES = 8

ENQUEUE = (
    "import sys; from worker.app import enqueue; from worker.ledger.screening.outbox import Offer\n"
    "from schema.vocabulary import Priority; from worker.ledger.clocks import now\n"
    "enqueue([Offer(uid, Priority.ROUTINE, now()) for uid in sys.argv[1:]])"
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_message_is_screened_whole_and_each_study_once(database_url: str, broker: Settings, tmp_path: Path) -> None:
    model = write_model(tmp_path / "brightness.onnx")
    urls = {"SCREENING_DATABASE": database_url, "SCREENING_BROKER": broker.broker_url, "SCREENING_MODEL": str(model)}
    site = Installation(tmp_path / "home", {**urls, "SCREENING_STUDIES_AT_ONCE": "4", "SCREENING_PROVIDER": "cpu"})
    for number in range(STUDIES):
        write_image(tmp_path / "inbox" / f"{number}.png", grey=100 + number, noise=number)
    store = FolderStore(site.home / "store")
    with closing(Database(database_url)) as database:
        intake = Intake(Settings(home=site.home, database=database_url), database, store)
        for file in files_in(tmp_path / "inbox"):
            intake.take_in(file, now(), is_final=True, is_settled=True, inbox=tmp_path / "inbox")
        uids = [offer.study_uid for offer in outbox.offer(database, now())]
        assert len(uids) == STUDIES
        away = Path(next(store.files(OBJECTS)).place)
        aside = away.rename(tmp_path / "aside")
        away.mkdir()  # a disk that cannot be read
        subprocess.run([sys.executable, "-c", ENQUEUE, *uids], env=site.environment(), check=True)
        log = tmp_path / "celery.log"

        def screened() -> int:
            with database.reading() as connection:
                return int(connection.execute(text("SELECT count(*) FROM screening")).scalar_one())

        def interrupted() -> bool:
            return "study_interrupted" in [event["event"] for event in events(log)]

        with child(celery(), log, 30, site.environment()):
            wait_until(lambda: screened() == STUDIES - 1 and interrupted(), 90)
            away.rmdir()
            aside.rename(away)
            wait_until(lambda: screened() == STUDIES, 90)
        with database.reading() as connection:
            states = connection.execute(text("SELECT state, attempts FROM study")).all()
    assert [tuple(state) for state in states] == [("screened", 0)] * STUDIES
    assert site.json("reconcile")["holds"]
