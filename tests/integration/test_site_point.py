"""A site's point on its way into service: compare and promote know that the weights are the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from schema.database import Database
from tests.ledger import Clock
from tests.logistic_model import NORMALS, POSITIVES, write_factory, write_site
from trainer.cli.main import app
from worker.errors import BadData, PromotionRefused
from worker.inference.model import open_model
from worker.registry.comparison import Comparison, read_comparison
from worker.registry.non_inferiority import judge
from worker.registry.registry import Registry, Waiver
from worker.settings import Settings
from worker.store.folder import FolderStore


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    return write_factory(tmp_path / "factory.onnx")


@pytest.fixture
def registry(tmp_path: Path, factory: Path, database: Database, store: FolderStore) -> Registry:
    return Registry(Settings(home=tmp_path / "home", min_free_mib=1, model=factory), database, store)


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def calibrated(factory: Path, site: Path, *words: str) -> Path:
    out = factory.with_name("site.onnx")
    said = run("calibrate", factory, "--data", site, "--out", out, *words)
    assert said.exit_code == 0, said.output
    return out


def compared(old: Path, new: Path, data: Path) -> tuple[Path, Comparison]:
    folder = new.with_name("compared")
    said = run("compare", old, new, "--data", data, "--out", folder)
    assert said.exit_code == 0, said.output
    return folder / "comparison.json", read_comparison(folder / "comparison.json").comparison


def test_few_images_and_those_that_chose_the_point_promote_it(
    factory: Path, registry: Registry, tmp_path: Path, clock: Clock
) -> None:
    """29 positives could not judge another model; for another point of the same weights they need not."""
    site = write_site(tmp_path / "north", NORMALS[:59], POSITIVES[:29])
    path, comparison = compared(factory, calibrated(factory, site), site)
    assert comparison.same_weights
    assert comparison.auc.value == pytest.approx(0.0, abs=1e-6)
    assert judge(comparison).holds
    said = registry.promote(factory.with_name("site.onnx"), path, "Dr A", clock())
    assert "the same weights at another point, on 29 positives and 59 negatives" in said
    assert registry.listed()[0]["name"] == "logistic_site"


def test_a_sensitivity_below_the_floor_needs_its_flag_again(
    factory: Path, registry: Registry, tmp_path: Path, clock: Clock
) -> None:
    site = write_site(tmp_path / "north", positives=(*POSITIVES[10:], *range(80, 90)))
    new = calibrated(factory, site, "--accept-lower-sensitivity")
    path, comparison = compared(factory, new, site)
    assert judge(comparison).broken == ("sensitivity",)
    with pytest.raises(PromotionRefused, match="set below the sensitivity floor"):
        registry.promote(new, path, "Dr A", clock())
    said = registry.promote(new, path, "Dr A", clock(), Waiver(lower_sensitivity=True, reason="agreed"))
    assert "lower sensitivity accepted: its point is below the sensitivity floor" in said


def test_a_fall_from_one_to_the_floor_holds_and_below_it_breaks(factory: Path, tmp_path: Path) -> None:
    """The margin of another model is 0.01; the same weights may fall to 0.95."""
    site = write_site(tmp_path / "north", positives=(*POSITIVES[:57], 80, 80, 80))
    _, comparison = compared(factory, calibrated(factory, site, "--rule", "fixed=0.5"), site)
    assert comparison.sensitivity.value == pytest.approx(-0.05)
    assert judge(comparison).holds
    values = comparison.to_json() | {"same_weights": False}
    assert "sensitivity" in judge(Comparison.from_json(values)).broken


def test_another_models_threshold_still_needs_other_images(factory: Path, tmp_path: Path) -> None:
    site = write_site(tmp_path / "north")
    new = calibrated(factory, site)
    (tmp_path / "other").mkdir()
    other = write_factory(tmp_path / "other" / "factory.onnx", gain=21.0)
    said = run("compare", other, new, "--data", site, "--out", tmp_path / "compared")
    assert isinstance(said.exception, BadData)
    assert "chosen on these images" in str(said.exception)


def test_a_comparison_written_before_is_of_other_weights(factory: Path, tmp_path: Path) -> None:
    site = write_site(tmp_path / "north", NORMALS[:30], POSITIVES[:29])
    path, _ = compared(factory, calibrated(factory, site), site)
    older = json.loads(path.read_text())
    del older["same_weights"]
    assert not Comparison.from_json(older).same_weights
    assert open_model(factory, "cpu").card.site is None
