"""A small fuzz run in the suite, in one process (`make fuzz` is the long one, through the whole program)."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.brightness_model import write_model
from tests.fuzz.mutations import damaged
from tests.ledger import Ledger
from tests.screen_one_study import screen_study
from worker.decoding.decoder import Decoder
from worker.inference.model import open_model
from worker.intake.folder_scan import files_in
from worker.intake.ingest import Intake
from worker.monitoring.reconciliation import reconcile
from worker.screen_study import StudyScreener

SEED, FILES = 4, 120


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with closing(Decoder()) as decoder:
        yield decoder


def test_one_file_is_the_same_whenever_it_is_made() -> None:
    assert damaged(SEED, 17) == damaged(SEED, 17)
    assert damaged(SEED, 17) != damaged(SEED + 1, 17)


@pytest.mark.parametrize("kind", ["sqlite"])
def test_damaged_files_all_end_in_one_state(desk: Ledger, decoder: Decoder, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number in range(FILES):
        name, content = damaged(SEED, number)
        (inbox / name).write_bytes(content)
    intake = Intake(desk.settings, desk.database, desk.store, decoder)
    booked = [
        intake.take_in(file, desk.clock(), is_final=True, is_settled=True, inbox=inbox) for file in files_in(inbox)
    ]
    model = open_model(write_model(tmp_path / "brightness.onnx"), provider="cpu")
    screener = StudyScreener(desk.settings, desk.database, desk.store, model, desk.clock, decoder=decoder)
    for study_uid in desk.offer():
        assert screen_study(screener, study_uid, screener.clock()) is None, "a bug, recorded on the study"
    account = reconcile(desk.database, desk.store)
    assert account.holds
    assert account.files == Counter(str(b.state) for b in booked)
    assert sum(account.files.values()) == FILES
    assert set(account.studies) == {"screened"}
