"""A site sets its own point: the same weights, another threshold, and what the card says of it."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from tests.brightness_model import SIZE, write_image
from tests.logistic_model import NORMALS, POSITIVES, logistic_graph, write_factory, write_site
from trainer.cli.main import app
from trainer.evaluation.logit_line import SCALE, SHIFT, Line, remove_line, set_line, weights_digest
from worker.errors import BadData, BadSetting, ModelRefused
from worker.inference.card import ReducedDecode
from worker.inference.model import open_model, replay_goldens


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    return write_factory(tmp_path / "factory.onnx")


def run(model: Path, data: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(app, ["calibrate", *map(str, (model, "--data", data, *words))])


def flagged(model: Path, data: Path) -> dict[str, int]:
    """How many images of each class a model file flags, by its own verb."""
    said = CliRunner().invoke(app, ["evaluate", str(model), "--data", str(data), "--json"])
    measured = json.loads(said.stdout)["metrics"]
    sick, well = (round(measured[name]["value"] * measured[name]["n"]) for name in ("sensitivity", "specificity"))
    return {"found": sick, "left alone": well}


def test_the_point_has_the_specificity_with_assurance_on_the_same_images(factory: Path, tmp_path: Path) -> None:
    site, out = write_site(tmp_path / "north"), tmp_path / "new.onnx"
    said = run(factory, site, "--rule", "target-specificity=0.85", "--out", out, "--picture", tmp_path / "trade.svg")
    assert said.exit_code == 0, said.output
    assert flagged(factory, site)["left alone"] < 40
    assert flagged(out, site) == {"found": 60, "left alone": 92}, "r = 9: eight of 100 normals stay flagged"
    assert "60 of 60 found, 92 of 100 normals left alone" in said.stdout
    assert b"</svg>" in (tmp_path / "trade.svg").read_bytes()
    old, new = open_model(factory, "cpu"), open_model(out, "cpu")
    assert f"factory: {old.card.operating_point.threshold:.4f} before" in said.stdout
    replay_goldens(new)
    point, told = new.card.operating_point, new.card.site
    assert point.rule == "lowest threshold with specificity >= 0.85 at 95% assurance, on images of north"
    assert told is not None
    assert (told.place, told.normals, told.positives, told.factory_digest) == ("north", 100, 60, old.digest)
    assert (told.specificity.value, told.sensitivity.value) == (0.92, 1.0)
    assert told.specificity.low < 0.92 < told.specificity.high
    assert told.factory_specificity.value < 0.4
    assert told.validation_sensitivity is not None
    assert told.validation_sensitivity.value == 1.0
    assert told.remarks == ()
    assert new.card.familiarity_limit == pytest.approx(2 * 204 / 255, rel=0.05)
    assert new.card.reference is not None
    assert new.card.reference.n == (100, 60)
    assert new.card.prevalence == pytest.approx(60 / 160)
    assert set(new.card.metrics) >= {"validation_auc", "test_auc", "site_specificity", "site_brier"}
    assert "test_specificity" not in new.card.metrics, "it was measured at the factory's point"


def test_the_weights_are_the_same_and_the_probabilities_fit_the_site(factory: Path, tmp_path: Path) -> None:
    site, out = write_site(tmp_path / "north"), tmp_path / "new.onnx"
    assert run(factory, site, "--out", out).exit_code == 0
    assert weights_digest(factory) == weights_digest(out)
    assert weights_digest(factory) != weights_digest(write_changed(factory, tmp_path / "other.onnx"))
    briers = []
    for model in (factory, out):
        said = CliRunner().invoke(app, ["evaluate", str(model), "--data", str(site), "--json"])
        briers.append(json.loads(said.stdout)["metrics"]["brier"]["value"])
    assert briers[1] < briers[0]
    new = open_model(out, "cpu")
    grid = np.full((1, SIZE, SIZE, 1), 120, np.uint8)
    logit = 20 * 120 / 255 - 8
    expected = 1 / (1 + np.exp(-(logit / new.card.temperature + new.card.bias)))
    assert new.predict(grid)[0].probability == pytest.approx(expected, abs=1e-4)


def write_changed(model: Path, path: Path) -> Path:
    proto = onnx.load(model)
    next(w for w in proto.graph.initializer if w.name == "gain").float_data[0] = 21.0
    path.write_bytes(proto.SerializeToString())
    return path


def line_of(proto: onnx.ModelProto) -> Line:
    """The line in a graph; a graph without one has scale 1 and shift 0."""
    found = {w.name: float(onnx.numpy_helper.to_array(w)) for w in proto.graph.initializer if w.name in (SCALE, SHIFT)}
    return Line(found.get(SCALE, 1.0), found.get(SHIFT, 0.0))


def test_a_line_is_set_replaced_and_taken_out() -> None:
    proto, plain = logistic_graph(), logistic_graph().graph.SerializeToString(deterministic=True)
    set_line(proto, Line(2.0, 0.5))
    set_line(proto, Line(0.5, -1.0))
    onnx.checker.check_model(proto)
    assert line_of(proto) == Line(0.5, -1.0)
    remove_line(proto)
    assert proto.graph.SerializeToString(deterministic=True) == plain
    assert line_of(proto) == Line()


def test_below_the_floor_it_is_refused_unless_that_is_named(tmp_path: Path) -> None:
    """Of 60 positives 10 are as dark as the normals; with 0.85 of the normals left alone they would be missed."""
    factory = write_factory(tmp_path / "factory.onnx")
    site = write_site(tmp_path / "north", positives=(*POSITIVES[10:], *range(60, 70)))
    out = tmp_path / "new.onnx"
    said = run(factory, site, "--out", out)
    assert isinstance(said.exception, ModelRefused)
    assert "50 of 60 positives of these images" in str(said.exception)
    assert "--accept-lower-sensitivity" in str(said.exception)
    assert not list(tmp_path.glob("new*"))
    assert run(factory, site, "--accept-lower-sensitivity", "--out", out).exit_code == 0
    told = open_model(out, "cpu").card.site
    assert told is not None
    assert told.accepts_lower_sensitivity
    assert any(remark.startswith("lower sensitivity accepted") for remark in told.remarks)


def test_the_floor_holds_on_the_models_own_validation_images_too(tmp_path: Path) -> None:
    """All local positives are found, but a fifth of the validation positives are as dark as local normals."""
    validation = (*POSITIVES[12:], *range(90, 102))
    factory = write_factory(tmp_path / "factory.onnx", validation)
    said = run(factory, write_site(tmp_path / "north"), "--out", tmp_path / "new.onnx")
    assert isinstance(said.exception, ModelRefused)
    assert "0.800 of the positives among the model's validation images" in str(said.exception)
    allowed = re.search(r"--rule fixed=([\d.]+): 60 of 60 found, (\d+) of 100", str(said.exception))
    assert allowed
    said_so = run(factory, tmp_path / "north", "--rule", f"fixed={allowed[1]}", "--out", tmp_path / "lower.onnx")
    assert said_so.exit_code == 0, said_so.output
    assert f"60 of 60 found, {allowed[2]} of 100 normals left alone" in said_so.output
    assert "of these images" not in str(said.exception)
    unknown = write_factory(tmp_path / "unknown.onnx", validation_scores=None)
    said = run(unknown, tmp_path / "north", "--out", tmp_path / "new.onnx")
    assert "the file does not hold their scores" in str(said.exception)


def test_few_positives_are_said_on_the_card(factory: Path, tmp_path: Path) -> None:
    site = write_site(tmp_path / "north", NORMALS[:59], POSITIVES[30:59])
    assert run(factory, site, "--out", tmp_path / "new.onnx", "--place", "St. Elsewhere").exit_code == 0
    told = open_model(tmp_path / "new.onnx", "cpu").card.site
    assert told is not None
    assert told.place == "St. Elsewhere"
    assert told.remarks == (
        "local sensitivity not shown: 29 patients with pneumonia, 59 are needed",
        "59 patients without pneumonia; 100 are advised",
    )


def test_several_images_of_a_patient_count_once(factory: Path, tmp_path: Path) -> None:
    site = write_site(tmp_path / "north", NORMALS[:18], POSITIVES)
    for i in range(10):
        write_image(site / "NORMAL" / "N0" / f"again{i}.png", 40, noise=100 + i)
    said = run(factory, site, "--out", tmp_path / "new.onnx")
    assert isinstance(said.exception, BadData)
    assert "18 normals cannot show specificity >= 0.85" in str(said.exception)
    assert "at least 19 are needed; of several images of a patient one counts" in str(said.exception)


def test_many_images_of_one_patient_do_not_hide_that_others_are_missed(factory: Path, tmp_path: Path) -> None:
    """117 of 120 positive images are found, but 17 of 20 patients."""
    site, out = write_site(tmp_path / "north", NORMALS[:30], (*POSITIVES[:17], 42, 42, 42)), tmp_path / "new.onnx"
    for i in range(100):
        write_image(site / "PNEUMONIA" / "P0" / f"again{i}.png", 200, noise=100 + i)
    said = run(factory, site, "--out", out)
    assert isinstance(said.exception, ModelRefused)
    assert "it would find 17 of 20 patients with pneumonia in each of their images (0.850)" in str(said.exception)
    allowed = re.search(r"--rule fixed=([\d.]+): 120 of 120 found", str(said.exception))
    assert allowed
    assert run(factory, site, "--rule", f"fixed={allowed[1]}", "--out", tmp_path / "lower.onnx").exit_code == 0
    assert run(factory, site, "--accept-lower-sensitivity", "--out", out).exit_code == 0
    told = open_model(out, "cpu").card.site
    assert told is not None
    assert told.accepts_lower_sensitivity
    narrow = "several images of some patients, so the intervals are too narrow: in each of their images"
    assert f"{narrow} 17 of 20 patients with pneumonia are found, 29 of 30 without it left alone" in told.remarks


def test_without_labels_it_only_tells_how_far_the_images_are(tmp_path: Path) -> None:
    site = write_site(tmp_path / "north")
    known = tmp_path / "known.onnx"
    assert run(write_factory(tmp_path / "factory.onnx"), site, "--out", known).exit_code == 0
    (tmp_path / "brighter").mkdir()
    for i, grey in enumerate(range(100, 220)):
        write_image(tmp_path / "brighter" / f"{i}.png", grey, noise=i)
    before = sorted(path.name for path in tmp_path.iterdir())
    said = run(known, tmp_path / "brighter", "--unlabelled", "--json")
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert found["compared"]["shifts"]["display_mean"]["status"] == "left_limits"
    same = json.loads(run(known, site, "--unlabelled", "--json").stdout)
    assert {shift["status"] for shift in same["compared"]["shifts"].values()} == {"steady"}
    assert "no model was written" in run(known, tmp_path / "brighter", "--unlabelled").stdout
    few = tmp_path / "few.csv"
    few.write_text("path,label\n" + "".join(f"brighter/{i}.png,normal\n" for i in range(50)), encoding="utf-8")
    words = ("--index", few, "--each-file-a-patient", "--unlabelled", "--json")
    assert json.loads(run(known, tmp_path / "brighter", *words).stdout)["images"] == 50
    few.unlink()
    said = run(known, site, "--unlabelled", "--out", tmp_path / "new.onnx")
    assert said.exit_code == 2
    assert "writes no model" in said.output
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_calibrated_file_is_not_calibrated_again_and_not_written_over(factory: Path, tmp_path: Path) -> None:
    site, out = write_site(tmp_path / "north"), tmp_path / "new.onnx"
    assert run(factory, site, "--out", out).exit_code == 0
    said = run(out, site, "--out", tmp_path / "again.onnx")
    assert isinstance(said.exception, BadSetting)
    assert f"file that it was made from, {open_model(factory, 'cpu').digest[:12]}" in str(said.exception)
    assert "another name" in str(run(factory, site, "--out", factory).exception)


def test_bounds_of_the_reduced_decode_surround_the_new_threshold(tmp_path: Path) -> None:
    bounds = ReducedDecode(("jpeg2000",), 0.05, 0.3, 0.1, 100, "2" * 64)
    factory = write_factory(tmp_path / "factory.onnx", reduced_decode=bounds)
    assert run(factory, write_site(tmp_path / "north"), "--out", tmp_path / "new.onnx").exit_code == 0
    new = open_model(tmp_path / "new.onnx", "cpu").card
    assert new.reduced_decode is not None
    assert new.reduced_decode.sure_below < new.operating_point.threshold < new.reduced_decode.sure_above
