"""A study's whole path with the store in a bucket, whose server goes away in between. Against moto, over HTTP."""

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import cv2
import numpy as np
import pytest

from schema.vocabulary import FileState, ReviewOutcome
from tests.brightness_model import write_model
from tests.ledger import Ledger
from tests.object_store import ObjectStore
from tests.phantoms import STUDY_UID, dicom_file, picture
from tests.screen_one_study import screen
from worker.errors import StorageUnavailable
from worker.export.labels import INDEX, export
from worker.imaging.limits import DEFAULT
from worker.intake.ingest import Intake
from worker.intake.watcher import Watcher
from worker.ledger import decisions
from worker.ledger.pruning import prune
from worker.ledger.screening import claims
from worker.ledger.screening.outbox import Backlog
from worker.monitoring.reconciliation import reconcile
from worker.registry.loader import ModelLoader
from worker.screen_study import StudyScreener
from worker.store import MODELS, OBJECTS, OVERLAYS
from worker.store.bucket import BucketStore
from worker.worklist.details import show
from worker.worklist.unread_list import entries

pytestmark = pytest.mark.parametrize("kind", ["sqlite"])  # no question is asked of the database that others do not ask

EVER = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass
class Ward:
    """An inbox, and an installation whose store is a bucket."""

    desk: Ledger
    store: BucketStore
    server: ObjectStore
    inbox: Path

    @contextmanager
    def outage(self) -> Iterator[None]:
        """The server is away while the block runs."""
        self.server.stop()
        try:
            yield
        finally:
            self.server.start()

    def is_interrupted(self, work: Callable[[], object]) -> None:
        """What needs the store is an outage while its server is away."""
        with self.outage(), pytest.raises(StorageUnavailable, match="cannot be reached"):
            work()

    def watcher(self) -> Watcher:
        intake = Intake(self.desk.settings, self.desk.database, self.store)
        clock = self.desk.clock
        return Watcher(intake, self.inbox, lambda _: None, Backlog, clock, lambda: clock().timestamp())

    def kept(self) -> dict[str, int]:
        """How many objects of each kind are in the bucket."""
        return {kind: len(list(self.store.files(kind))) for kind in (OBJECTS, OVERLAYS, MODELS)}


@pytest.fixture
def ward(desk: Ledger, served_objects: ObjectStore, bucket: str, tmp_path: Path) -> Ward:
    desk.clock.now = datetime.now(UTC)  # the server's own
    desk.settings = attrs.evolve(desk.settings, model=write_model(tmp_path / "brightness.onnx"))
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    return Ward(desk, served_objects.store(bucket), served_objects, inbox)


def test_a_study_goes_its_whole_path_over_outages(ward: Ward, tmp_path: Path) -> None:
    desk, store = ward.desk, ward.store
    watcher = ward.watcher()
    (ward.inbox / "a.dcm").write_bytes(dicom_file(picture()))
    watcher.scan()
    desk.clock.forward(10)
    ward.is_interrupted(watcher.scan)
    assert [p.name for p in ward.inbox.iterdir()] == ["a.dcm"], "it waits where it is"
    watcher.scan()
    assert list(ward.inbox.iterdir()) == []
    assert ward.kept() == {OBJECTS: 1, OVERLAYS: 0, MODELS: 0}

    model_loader = ModelLoader(desk.settings, desk.database, store, desk.clock)
    ward.is_interrupted(model_loader.in_force)
    screener = StudyScreener(desk.settings, desk.database, store, model_loader.in_force().active, desk.clock)
    desk.clock.forward(60)
    held = desk.claim(STUDY_UID)
    ward.is_interrupted(lambda: screen(screener, held))
    claims.give_back_all(desk.database, [held], desk.clock())
    assert screen(screener, desk.claim(STUDY_UID)) is True
    assert ward.kept() == {OBJECTS: 1, OVERLAYS: 1, MODELS: 1}

    (entry,) = entries(desk.database, store)
    (image,) = show(desk.database, store, STUDY_UID)["images"]
    assert entry.heatmap == image["heatmap"] is not None
    png = np.frombuffer(ward.server.files.cat_file(entry.heatmap), np.uint8)
    assert cv2.imdecode(png, cv2.IMREAD_COLOR) is not None

    (ward.inbox / "again.dcm").write_bytes(dicom_file(picture()))
    watcher.scan()
    desk.clock.forward(10)
    watcher.scan()
    account = reconcile(desk.database, store)
    assert (account.holds, account.files) == (True, {FileState.ACCEPTED: 1, FileState.DUPLICATE: 1})
    assert ward.kept()[OBJECTS] == 1
    ward.is_interrupted(lambda: reconcile(desk.database, store))

    decisions.review(desk.database, STUDY_UID, ReviewOutcome.PNEUMONIA, "Dr A", None, desk.clock())
    assert exported(ward, tmp_path / "one") == exported(ward, tmp_path / "two"), "the key of pseudonyms is one"
    desk.clock.forward(hours=366 * 24)
    year = timedelta(days=365)
    ward.is_interrupted(lambda: prune(desk.database, store, desk.clock(), year))
    prune(desk.database, store, desk.clock(), year)
    assert ward.kept() == {OBJECTS: 0, OVERLAYS: 0, MODELS: 1}, "a prune that broke off is finished by the next"
    assert reconcile(desk.database, store).holds


def test_an_object_that_is_gone_is_found_missing(ward: Ward) -> None:
    watcher = ward.watcher()
    (ward.inbox / "a.dcm").write_bytes(dicom_file(picture()))
    watcher.scan()
    ward.desk.clock.forward(10)
    watcher.scan()
    (stored,) = ward.store.files(OBJECTS)
    assert ward.store.remove(stored, stored.modified_at)
    account = reconcile(ward.desk.database, ward.store)
    assert account.faults["files booked whose bytes are not in the store"] == 1


def exported(ward: Ward, out: Path) -> list[dict[str, str]]:
    """The index of an export."""
    export(ward.desk.database, ward.store, out, EVER, DEFAULT)
    return list(csv.DictReader(io.StringIO((out / INDEX).read_text())))
