"""Export of readers' verdicts as labels: the newest of each study, its images, and no names."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from pydicom import dcmread

from schema.vocabulary import ReviewOutcome
from tests.ledger import Ledger
from trainer.data.folders import read_samples
from worker.errors import BadData
from worker.export.labels import INDEX, Exported, export
from worker.imaging.image_file import read_display, read_instance
from worker.imaging.limits import DEFAULT
from worker.ledger import decisions
from worker.ledger.decisions import Seen
from worker.ledger.intake.arrivals import Incoming, Receipt
from worker.ledger.intake.register import register
from worker.store import OBJECTS

SAMPLES = Path(__file__).parents[1] / "data" / "inbox"
EVER = datetime(2000, 1, 1, tzinfo=UTC)


def take_in(desk: Ledger, name: str, probability: float = 0.1) -> str:
    """A sample study, taken in and screened; its UID."""
    content = (SAMPLES / name).read_bytes()
    header = read_instance(content)
    receipt = Receipt(
        Incoming(f"/inbox/{name}", len(content), 1), header, desk.store.put(OBJECTS, content), is_settled=True
    )
    register(desk.database, receipt, desk.settings, desk.clock())
    desk.screen(header.study_uid, probability, headers=[header])
    return header.study_uid


def read(desk: Ledger, study_uid: str, outcome: ReviewOutcome) -> None:
    decisions.review(desk.database, study_uid, outcome, "Dr Test", None, desk.clock())


def leave(
    desk: Ledger, out: Path, since: datetime = EVER, *, is_unseen: bool = False
) -> tuple[Exported, list[dict[str, Any]]]:
    exported = export(desk.database, desk.store, out, since, DEFAULT, is_unseen=is_unseen)
    with (out / INDEX).open(newline="") as file:
        return exported, list(csv.DictReader(file))


def test_confirmed_and_corrected_verdicts_leave_and_uncertain_ones_stay(desk: Ledger, tmp_path: Path) -> None:
    confirmed = take_in(desk, "anna_explicit.dcm", 0.9)
    corrected = take_in(desk, "ida_8_bit.png", 0.9)
    changed = take_in(desk, "emma_rle.dcm", 0.2)
    uncertain = take_in(desk, "noah_224.jpeg", 0.2)
    take_in(desk, "mia_224.jpeg", 0.9)
    read(desk, confirmed, ReviewOutcome.PNEUMONIA)
    read(desk, corrected, ReviewOutcome.NO_PNEUMONIA)
    read(desk, changed, ReviewOutcome.NO_PNEUMONIA)
    read(desk, changed, ReviewOutcome.PNEUMONIA)
    read(desk, uncertain, ReviewOutcome.UNCERTAIN)
    exported, rows = leave(desk, tmp_path / "out")
    assert {row["study_uid"]: (row["label"], row["review"]) for row in rows} == {
        confirmed: ("pneumonia", "confirmed"),
        corrected: ("no_pneumonia", "corrected"),
        changed: ("pneumonia", "corrected"),
    }
    assert (exported.images, exported.studies, exported.left_out) == (3, 3, {"read as uncertain": 1})


def test_verdicts_given_unseen_can_leave_alone(desk: Ledger, tmp_path: Path) -> None:
    """One who followed the model after it was shown keeps the label that was given before; others stay here."""
    swayed, unseen, seen, unknown, withdrawn = (
        take_in(desk, name, 0.9)
        for name in ("anna_explicit.dcm", "ida_8_bit.png", "emma_rle.dcm", "noah_224.jpeg", "mia_224.jpeg")
    )

    def judge(uid: str, outcome: ReviewOutcome, *, saw: bool) -> None:
        row = desk.study(uid)
        with desk.database.reading() as connection:
            newest = connection.execute(
                sa.text("SELECT MAX(id) FROM review WHERE study_id = :id"), {"id": row.id}
            ).scalar()
        shown = Seen(row.revision, row.current_screening_id, newest, saw, saw, open_s=1.0)
        decisions.review(desk.database, uid, outcome, "ann", None, desk.clock(), seen=shown)

    judge(swayed, ReviewOutcome.NO_PNEUMONIA, saw=False)
    judge(swayed, ReviewOutcome.PNEUMONIA, saw=True)
    judge(unseen, ReviewOutcome.PNEUMONIA, saw=False)
    judge(seen, ReviewOutcome.PNEUMONIA, saw=True)
    read(desk, unknown, ReviewOutcome.PNEUMONIA)
    judge(withdrawn, ReviewOutcome.NO_PNEUMONIA, saw=False)
    judge(withdrawn, ReviewOutcome.PNEUMONIA, saw=True)
    decisions.withdraw(desk.database, withdrawn, "ann", "the wrong study", desk.clock())
    exported, rows = leave(desk, tmp_path / "unseen", is_unseen=True)
    assert {row["study_uid"]: row["label"] for row in rows} == {swayed: "no_pneumonia", unseen: "pneumonia"}
    assert exported.left_out == {"review withdrawn": 1}
    everything, _ = leave(desk, tmp_path / "all")
    assert everything.studies == 4


def test_the_trainer_reads_them_with_the_pixels_that_the_worker_showed(desk: Ledger, tmp_path: Path) -> None:
    uid = take_in(desk, "greta_monochrome1_12_bit.dcm", 0.9)
    read(desk, uid, ReviewOutcome.PNEUMONIA)
    leave(desk, tmp_path / "out")
    (sample,) = read_samples(tmp_path / "out")
    assert sample.label == 1
    shown = read_display((SAMPLES / "greta_monochrome1_12_bit.dcm").read_bytes()).pixels
    left = read_display((tmp_path / "out" / sample.path).read_bytes()).pixels
    assert np.array_equal(shown, left)


def test_no_name_leaves_and_a_patient_is_one_pseudonym(desk: Ledger, tmp_path: Path) -> None:
    for name in ("anna_explicit.dcm", "ben_jpeg2000.dcm"):
        read(desk, take_in(desk, name), ReviewOutcome.NO_PNEUMONIA)
    header = dcmread(SAMPLES / "anna_explicit.dcm", stop_before_pixels=True)
    _, rows = leave(desk, tmp_path / "out")
    _, again = leave(desk, tmp_path / "again")
    assert rows == again, "the same key gives the same pseudonyms"
    assert len({row["patient"] for row in rows}) == 2
    written = b"".join(file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file())
    names = b" ".join(str(file).encode() for file in (tmp_path / "out").rglob("*"))
    for secret in (str(header.PatientName), str(header.PatientID)):
        assert secret
        assert secret.encode() not in written + names
    (desk.store.folder / "pseudonym.key").unlink()
    _, other = leave(desk, tmp_path / "other")
    assert {row["patient"] for row in other}.isdisjoint({row["patient"] for row in rows})


def test_only_images_that_were_judged_when_they_were_read_leave(desk: Ledger, tmp_path: Path) -> None:
    lateral = take_in(desk, "paul_lateral.dcm")
    read(desk, lateral, ReviewOutcome.NO_PNEUMONIA)
    exported, rows = leave(desk, tmp_path / "out")
    assert rows == []
    assert exported.left_out == {"no image was judged when it was read": 1}


def test_only_reviews_since_a_day_leave(desk: Ledger, tmp_path: Path) -> None:
    read(desk, take_in(desk, "anna_explicit.dcm"), ReviewOutcome.NO_PNEUMONIA)
    desk.clock.forward(hours=48)
    late = take_in(desk, "ida_8_bit.png")
    read(desk, late, ReviewOutcome.NO_PNEUMONIA)
    _, rows = leave(desk, tmp_path / "out", since=datetime(2026, 3, 3, tzinfo=UTC))
    assert [row["study_uid"] for row in rows] == [late]


def test_a_folder_that_holds_something_is_left_alone(desk: Ledger, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(BadData, match="is not empty"):
        export(desk.database, desk.store, tmp_path / "full", EVER, DEFAULT)
