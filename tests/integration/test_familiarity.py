"""The familiarity limit of a model: in the worker's verdicts, and in `trainer familiarity`."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.brightness_model import write_image, write_model
from tests.ledger import Ledger
from tests.screen_one_study import screen
from trainer.cli.main import app
from trainer.data.folders import read_samples
from trainer.evaluation.model_file import open_on_all_cores
from trainer.evaluation.non_radiographs import KINDS, generate
from trainer.evaluation.out_of_distribution import (
    CHANGES,
    HELD_OUT,
    LATERALS,
    measure_familiarity,
)
from trainer.progress import silent
from worker.errors import BadData, ModelRefused
from worker.imaging.image_file import read_display
from worker.imaging.preprocess import apply
from worker.inference.model import OnnxModel, open_model
from worker.intake.folder_scan import incoming
from worker.intake.ingest import Intake
from worker.screen_study import StudyScreener
from worker.settings import DEFAULT_MODEL

INBOX = Path(__file__).parents[1] / "data" / "inbox"

#: Of the samples, the chest radiographs that can be read.
CHESTS = sorted(
    path for path in INBOX.iterdir() if path.name not in ("olga_hand.dcm", "rosa_truncated.dcm", "report.txt")
)


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize(
    ("grey", "verdict", "band"), [(60, "not_flagged", 6), (110, "unscreenable", 4), (220, "flagged", 3)]
)
def test_beyond_the_limit_nothing_becomes_a_negative(
    desk: Ledger, tmp_path: Path, grey: int, verdict: str, band: int
) -> None:
    model = open_model(write_model(tmp_path / "model.onnx", familiarity_limit=0.6), "cpu")
    path = write_image(tmp_path / "in" / "a.png", grey, noise=1)
    file = incoming(path)
    assert file is not None
    intake = Intake(desk.settings, desk.database, desk.store)
    booked = intake.take_in(file, desk.clock(), is_final=True, is_settled=True, inbox=path.parent)
    assert booked.study_uid is not None
    screener = StudyScreener(desk.settings, desk.database, desk.store, model, desk.clock)
    assert screen(screener, desk.claim(booked.study_uid))
    entry = desk.entry(booked.study_uid)
    assert (entry.verdict, entry.band) == (verdict, band)
    assert entry.probability is not None
    if verdict == "unscreenable":
        assert entry.verdict_reason == "unfamiliar"
    if verdict != "not_flagged":
        assert entry.verdict_detail is not None
        assert "beyond the limit of 0.600" in entry.verdict_detail


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    root = tmp_path / "held-out"
    for i in range(6):
        write_image(root / "NORMAL" / f"IM-{i:04d}-1.png", 40 + i, noise=i)
        write_image(root / "PNEUMONIA" / f"person{i}_virus_{i}.png", 60 + i, noise=i)
    (root / "NORMAL" / "IM-0099-1.png").write_bytes(b"no picture")
    return root


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    root = tmp_path / "strangers"
    write_image(root / "hip" / "a.png", 200)
    write_image(root / "hip" / "deeper" / "b.png", 30)
    (root / "hip" / "note.txt").write_text("not an image")
    (root / "empty").mkdir()
    return root


def test_each_kind_is_counted_with_its_interval(held_out: Path, foreign: Path, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx", familiarity_limit=0.6)
    samples = read_samples(held_out)
    found = measure_familiarity(open_on_all_cores(path, "cpu"), held_out, samples, foreign, silent, 4)
    assert set(found.kinds) == {HELD_OUT, *CHANGES, *KINDS, "hip"}
    assert (found.kinds[HELD_OUT].count_outside, found.kinds[HELD_OUT].outside.n) == (0, 12)
    inverted = found.kinds["held-out, inverted"]
    assert (inverted.count_outside, inverted.wanted) == (12, ""), "no promise is made of a changed chest"
    hip = found.kinds["hip"]
    assert (hip.count_outside, hip.outside.n, hip.wanted) == (1, 2, "outside")
    assert hip.outside.low < 0.5 < hip.outside.high
    assert hip.nearest == pytest.approx(2 * 30 / 255 / 0.6, rel=0.05)
    assert {fault["path"] for fault in found.unreadable} == {"NORMAL/IM-0099-1.png", "hip/note.txt"}
    assert found.remarks == [LATERALS]


def test_laterals_at_hand_are_measured_and_not_excused(held_out: Path, foreign: Path, tmp_path: Path) -> None:
    (foreign / "hip").rename(foreign / "laterals")
    path = write_model(tmp_path / "model.onnx", familiarity_limit=0.6)
    found = measure_familiarity(open_on_all_cores(path, "cpu"), held_out, read_samples(held_out), foreign, silent, 1)
    assert found.kinds["laterals"].outside.n == 2
    assert found.remarks == []


def test_the_verb_prints_table_and_json(held_out: Path, tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx", familiarity_limit=0.6)
    told = CliRunner().invoke(app, ["familiarity", str(path), "--data", str(held_out), "--count", "2"])
    assert told.exit_code == 0, told.output
    assert "photograph-like" in told.stdout
    assert LATERALS in told.stdout
    said = CliRunner().invoke(app, ["familiarity", str(path), "--data", str(held_out), "--count", "2", "--json"])
    assert json.loads(said.stdout)["kinds"]["blank"]["outside"]["n"] == 2


def test_without_a_limit_or_images_there_is_nothing_to_report(held_out: Path, tmp_path: Path) -> None:
    model = open_model(write_model(tmp_path / "model.onnx"), "cpu")
    with pytest.raises(ModelRefused, match="no familiarity limit"):
        measure_familiarity(model, held_out, read_samples(held_out), None, silent)
    limited = open_model(write_model(tmp_path / "limited.onnx", familiarity_limit=0.6), "cpu")
    broken = [sample for sample in read_samples(held_out) if sample.path.endswith("IM-0099-1.png")]
    with pytest.raises(BadData, match="no image that can be read"):
        measure_familiarity(limited, held_out, broken, None, silent)


@pytest.fixture(scope="module")
def shipped() -> OnnxModel:
    model = open_model(DEFAULT_MODEL, "cpu", threads=2)
    if model.card.familiarity_limit is None:
        pytest.skip("the shipped model is of a time before the limit")
    return model


def lie_outside(model: OnnxModel, pictures: list[np.ndarray]) -> list[bool]:
    grids = np.stack([apply(picture, model.card.preprocessing)[0] for picture in pictures])
    return [prediction.is_unfamiliar(model.card.familiarity_limit) for prediction in model.predict(grids)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_model_keeps_generated_strangers_out(shipped: OnnxModel, kind: str) -> None:
    assert all(lie_outside(shipped, list(generate(kind, 8, seed=7))))


def test_the_shipped_model_keeps_a_hand_out(shipped: OnnxModel) -> None:
    assert lie_outside(shipped, [read_display((INBOX / "olga_hand.dcm").read_bytes()).pixels]) == [True]


def test_the_shipped_model_takes_no_negative_from_the_sample_chests(shipped: OnnxModel) -> None:
    card = shipped.card
    grids = [apply(read_display(path.read_bytes()).pixels, card.preprocessing)[0] for path in CHESTS]
    lost = [
        path.name
        for path, prediction in zip(CHESTS, shipped.predict(np.stack(grids)), strict=True)
        if prediction.is_unfamiliar(card.familiarity_limit) and prediction.probability < card.operating_point.threshold
    ]
    assert lost == []
