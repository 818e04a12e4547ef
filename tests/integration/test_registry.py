"""People decide which model is active; workers follow between messages, and nothing is overwritten."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from alembic import command
from numpy.typing import NDArray
from sqlalchemy import text

from schema.database import Database
from schema.migrate import alembic_config, upgrade
from tests.brightness_model import write_image, write_model
from tests.failing_device import PoisonedSession
from tests.ledger import Clock, Ledger
from tests.screen_one_study import screen_study
from worker.cli.tables import print_models
from worker.errors import DeviceUnavailable, ModelRefused, PromotionRefused, ProviderUnavailable, StorageUnavailable
from worker.inference.card import NO_AGES, Population
from worker.inference.estimate import Estimate
from worker.inference.model import OnnxModel, open_model
from worker.inference.prediction import Prediction
from worker.intake.folder_scan import incoming
from worker.intake.ingest import Intake
from worker.ledger import audit
from worker.ledger.operations import promotions
from worker.ledger.screening import outbox
from worker.monitoring.health import CheckResult, check
from worker.registry.comparison import Change, ComparedModel, Comparison, Flips
from worker.registry.loader import ModelLoader
from worker.registry.registry import SETTING, Registry, Waiver, stored_model
from worker.screen_study import StudyScreener
from worker.settings import Settings
from worker.store import COMPARISONS, MODELS, Store
from worker.store.folder import FolderStore

HALF = Estimate(0.5, 0.4, 0.6, 100)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The setting's model is a small one."""
    return Settings(home=tmp_path / "home", min_free_mib=1, model=write_model(tmp_path / "first.onnx", name="first"))


@pytest.fixture
def registry(settings: Settings, database: Database, store: FolderStore) -> Registry:
    return Registry(settings, database, store)


@pytest.fixture
def model_loader(settings: Settings, database: Database, store: FolderStore, clock: Clock) -> ModelLoader:
    return ModelLoader(settings, database, store, clock)


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return write_model(tmp_path / "second.onnx", gain=2.0, name="second")


@pytest.fixture
def compared(tmp_path: Path) -> Callable[..., Path]:
    """Writes a comparison.json between two model files."""

    def write(old: Path, new: Path, *, lost: int = 0, positives: int = 400, **changes: Any) -> Path:
        value = -lost / positives
        sides = [
            ComparedModel(m.digest, m.card.name, 0.5, HALF, HALF, HALF) for m in (open_model(old), open_model(new))
        ]
        if "auc" in changes:  # the areas say the same, unless a test wants them not to
            before = changes.pop("old_auc", 0.5 - changes["auc"].value)
            sides[0] = replace(sides[0], auc=replace(HALF, value=before))
        comparison = Comparison(
            old=sides[0], new=sides[1], provider="CPUExecutionProvider", data_digest="d" * 64, n=positives + 100,
            positives=positives, patients=300, unreadable=0, auc=Change(0.0, -0.01, 0.01), auc_p_value=1.0,
            sensitivity=Change(value, 2.5 * value, 0.0), specificity=Change(0.0, 0.0, 0.0),
            positive_flips=Flips(lost, 0), negative_flips=Flips(0, 0), flips=(), method="by hand",
            created_at="2026-01-01T00:00:00+00:00",
        )  # fmt: skip
        path = tmp_path / "comparison.json"
        path.write_text(json.dumps(replace(comparison, **changes).to_json()))
        return path

    return write


def digest_of(path: Path) -> str:
    return open_model(path).digest


def test_the_first_worker_takes_up_the_settings_model(
    model_loader: ModelLoader, registry: Registry, settings: Settings
) -> None:
    assert model_loader.in_force().active.digest == digest_of(settings.model)
    (row,) = registry.listed()
    assert (row["standing"], row["name"]) == ("active", "first")
    assert [(d["action"], d["by"]) for d in row["decisions"]] == [("installed", SETTING)]
    assert registry.store.get(MODELS, row["digest"]) == settings.model.read_bytes()


def test_a_store_that_has_lost_the_settings_model_gets_it_again(
    model_loader: ModelLoader, registry: Registry, settings: Settings, clock: Clock
) -> None:
    registry.install(clock())
    shutil.rmtree(Path(settings.home, "store"))
    assert model_loader.in_force().active.digest == digest_of(settings.model)
    assert len(registry.listed()[0]["decisions"]) == 1


def test_a_store_that_may_be_away_or_that_of_others_gets_no_model(
    registry: Registry, settings: Settings, clock: Clock
) -> None:
    registry.install(clock())
    shutil.rmtree(Path(settings.home, "store"))
    for other in (attrs.evolve(settings, database="postgresql://shared"), attrs.evolve(settings, store="/elsewhere")):
        Registry(other, registry.database, registry.store).install(clock())
    assert not registry.store.has(MODELS, digest_of(settings.model))


def test_another_setting_counts_until_a_person_has_promoted(
    registry: Registry, settings: Settings, second: Path, tmp_path: Path, clock: Clock
) -> None:
    registry.install(clock())
    moved = replace(registry, settings=attrs.evolve(settings, model=second))
    moved.install(clock())
    assert promotions.registry_state(registry.database).active == digest_of(second)
    third = write_model(tmp_path / "third.onnx", gain=3.0)
    moved.promote(third, None, "Dr A", clock(), Waiver(force=True, reason="a test"))
    registry.install(clock())
    assert promotions.registry_state(registry.database).active == digest_of(third)


def test_a_comparison_that_keeps_the_margin_promotes_and_is_kept(
    registry: Registry, settings: Settings, second: Path, compared: Callable[..., Path], clock: Clock
) -> None:
    comparison = compared(settings.model, second)
    said = registry.promote(second, comparison, "Dr A", clock())
    assert "on 400 positives and 100 negatives, the interval's lower bound is compared with each margin" in said
    assert "sensitivity +0.0000 [+0.0000, +0.0000] holds its margin of -0.01" in said
    active, before = registry.listed()
    assert (active["name"], active["standing"], before["standing"]) == ("second", "active", "served before")
    (decision,) = active["decisions"]
    assert (decision["action"], decision["by"], decision["reason"]) == ("promoted", "Dr A", said)
    assert registry.store.get(COMPARISONS, decision["comparison_digest"]) == comparison.read_bytes()
    with pytest.raises(PromotionRefused, match="is the active model already"):
        registry.promote(second, comparison, "Dr A", clock())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"lost": 5}, r"lower bound is compared with each margin: .*sensitivity -0.0125 .* BREAKS its margin of -0.01"),
        (
            {"lost": 2, "positives": 100},
            r"point difference .* needs 381 positives: .*sensitivity -0.02.* BREAKS",
        ),
        ({"auc": Change(-0.005, -0.0101, 0.0)}, r"auc -0.0050 .* BREAKS its margin of -0.01"),
        ({"auc": Change(-0.02, -0.03, 0.0), "positives": 100}, r"auc -0.0200 .* BREAKS its margin of -0.01"),
        ({"specificity": Change(-0.04, -0.0501, 0.0), "negative_flips": Flips(4, 0)}, "specificity .* BREAKS"),
        ({"positives": 99, "n": 599}, "99 positives and 500 negatives are too few"),
        ({"n": 499}, "400 positives and 99 negatives are too few to judge a model: at least 100 of each"),
        ({"auc": Change(0.0, float("nan"), 0.0)}, "is no comparison.json"),
        ({"auc": Change(0.1, 0.0, 0.2), "old_auc": 0.5}, "is no comparison.json"),
        ({"data_digest": ""}, "is no comparison.json"),
        ({"sensitivity": Change(0.5, 0.4, 0.6)}, "is no comparison.json"),
        ({"sensitivity": Change(float("nan"), 0.0, 0.0)}, "is no comparison.json"),
        ({"n": 400}, "is no comparison.json"),
    ],
)
def test_a_comparison_that_speaks_against_it_or_is_unsound_refuses(
    registry: Registry, settings: Settings, second: Path, compared: Callable[..., Path], clock: Clock,
    changes: dict[str, Any], complaint: str,
) -> None:  # fmt: skip
    with pytest.raises(PromotionRefused, match=complaint):
        registry.promote(second, compared(settings.model, second, **changes), "Dr A", clock())
    assert promotions.registry_state(registry.database).active == digest_of(settings.model)
    known = {row["name"]: row for row in registry.listed()}
    if "is no comparison" in complaint:
        assert "second" not in known
        return
    (kept,) = known["second"]["comparisons"]
    assert (kept["is_accepted"], kept["by"], kept["against"]) == (False, "Dr A", digest_of(settings.model))
    assert re.search(complaint, kept["says"])
    assert json.loads(registry.store.get(COMPARISONS, kept["comparison_digest"]))["new"]["name"] == "second"


def test_a_lower_sensitivity_is_accepted_by_its_own_flag_only_and_says_what_it_costs(
    registry: Registry, settings: Settings, second: Path, compared: Callable[..., Path], clock: Clock
) -> None:
    costs = r"13 more of 1,000 pneumonias not flagged \(by the interval: up to 32\)"
    comparison = compared(settings.model, second, lost=5)
    with pytest.raises(PromotionRefused, match=f"{costs}: a trade that --accept-lower-sensitivity makes"):
        registry.promote(second, comparison, "Dr A", clock())
    for changes in ({"n": 450}, {"auc": Change(-0.1, -0.2, 0.0)}):
        worse = compared(settings.model, second, lost=5, **changes)
        with pytest.raises(PromotionRefused, match=r"too few|auc .* BREAKS"):
            registry.promote(second, worse, "Dr A", clock(), Waiver(lower_sensitivity=True))
    comparison = compared(settings.model, second, lost=5)
    said = registry.promote(
        second, comparison, "Dr A", clock(), Waiver(lower_sensitivity=True, reason="fewer false alarms")
    )
    assert re.match(f"lower sensitivity accepted: {costs}; on 400 positives", said)
    assert said.endswith(f"; fewer false alarms; {NO_AGES}")
    active = registry.listed()[0]
    assert [c["is_accepted"] for c in active["comparisons"]] == [False, False, False, True]
    deeds = [(e.deed, e.who, e.subject) for e in audit.trail(registry.database, clock() - timedelta(days=1))]
    assert deeds.count(("comparison_presented", "Dr A", digest_of(second))) == 4
    assert ("model_promoted", "Dr A", digest_of(second)) in deeds


def test_the_list_of_models_shows_a_comparison_that_was_refused(
    registry: Registry, settings: Settings, second: Path, compared: Callable[..., Path], clock: Clock,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(PromotionRefused):
        registry.promote(second, compared(settings.model, second, positives=7), "Dr A", clock())
    print_models(registry.listed())
    shown = capsys.readouterr().out
    assert f"known: second ({digest_of(second)[:12]})" in shown
    assert f"comparison with {digest_of(settings.model)[:12]} REFUSED, by Dr A: 7 positives and 100 negatives" in shown


def test_a_gate_of_the_active_model_is_not_lost_without_being_named(
    registry: Registry, tmp_path: Path, clock: Clock
) -> None:
    forced = Waiver(force=True, reason="a test")
    gated = write_model(
        tmp_path / "gated.onnx", 2.0, name="gated", familiarity_limit=1.3, population=Population("children", 1, 5)
    )
    assert NO_AGES not in registry.promote(gated, None, "Dr A", clock(), forced)
    ages_only = write_model(tmp_path / "ages.onnx", 3.0, name="ages", population=Population("children", None, 5))
    bare = write_model(tmp_path / "bare.onnx", 4.0, name="bare")
    with pytest.raises(PromotionRefused, match=r"lacks \(familiarity\).*--drop-gate familiarity"):
        registry.promote(ages_only, None, "Dr A", clock(), forced)
    with pytest.raises(PromotionRefused, match="--drop-gate ages --drop-gate familiarity"):
        registry.promote(bare, None, "Dr A", clock(), forced)
    with pytest.raises(PromotionRefused, match=r"lacks \(familiarity\)"):
        registry.promote(bare, None, "Dr A", clock(), replace(forced, dropped_gates=("ages",)))
    assert promotions.registry_state(registry.database).active == digest_of(gated)
    both = replace(forced, dropped_gates=("ages", "familiarity"))
    assert NO_AGES in registry.promote(bare, None, "Dr A", clock(), both)
    active = registry.listed()[0]
    assert (active["name"], active["decisions"][0]["reason"]) == (
        "bare", f"forced: a test; dropped gates: ages, familiarity; {NO_AGES}",
    )  # fmt: skip
    again = write_model(tmp_path / "again.onnx", 5.0, name="again")
    registry.promote(again, None, "Dr A", clock(), forced)  # what is lost already is asked for no more


def test_with_few_positives_the_point_difference_is_held(
    registry: Registry, settings: Settings, second: Path, compared: Callable[..., Path], clock: Clock
) -> None:
    said = registry.promote(second, compared(settings.model, second, lost=1, positives=100), "Dr A", clock())
    assert "the point difference is compared with each margin, because the lower bound needs 381 positives" in said


def test_the_comparison_must_be_about_these_two_models(
    registry: Registry, settings: Settings, second: Path, tmp_path: Path, compared: Callable[..., Path], clock: Clock
) -> None:
    third = write_model(tmp_path / "third.onnx", gain=3.0)
    for old, new, complaint in (
        (settings.model, third, "the comparison is about"),
        (third, second, "the comparison is with"),
    ):
        with pytest.raises(PromotionRefused, match=complaint):
            registry.promote(second, compared(old, new), "Dr A", clock())
    with pytest.raises(PromotionRefused, match="no --comparison was given"):
        registry.promote(second, None, "Dr A", clock())
    with pytest.raises(PromotionRefused, match="needs a --reason"):
        registry.promote(second, None, "Dr A", clock(), Waiver(force=True))
    registry.promote(second, None, "Dr A", clock(), Waiver(force=True, reason="the old one is unsafe"))
    assert registry.listed()[0]["decisions"][0]["reason"] == f"forced: the old one is unsafe; {NO_AGES}"


def test_not_even_force_promotes_what_fails_its_goldens(registry: Registry, tmp_path: Path, clock: Clock) -> None:
    false = write_model(tmp_path / "false.onnx", gain=1.0, golden_gain=1.5)
    with pytest.raises(ModelRefused, match=r"grey\.png"):
        registry.promote(false, None, "Dr A", clock(), Waiver(force=True, reason="a test"))


def test_rollback_goes_back_step_by_step_and_past_retired_models(
    registry: Registry, settings: Settings, tmp_path: Path, clock: Clock
) -> None:
    files = [settings.model, *(write_model(tmp_path / f"{g}.onnx", gain=g) for g in (2.0, 3.0, 4.0))]
    digests = [digest_of(file) for file in files]
    for file in files[1:]:
        registry.promote(file, None, "Dr A", clock(), Waiver(force=True, reason="a test"))
    assert registry.rollback("Dr B", "too many flags", clock()) == digests[2]
    assert registry.retire(digests[1][:10], "Dr B", None, clock()) == digests[1]
    assert registry.rollback("Dr B", None, clock()) == digests[0]
    with pytest.raises(PromotionRefused, match="no model served before"):
        registry.rollback("Dr B", None, clock())
    with pytest.raises(PromotionRefused, match="is the active model"):
        registry.retire(digests[0], "Dr B", None, clock())
    with pytest.raises(PromotionRefused, match="it was retired"):
        registry.promote(files[1], None, "Dr A", clock())
    with pytest.raises(PromotionRefused, match="no such model"):
        registry.retire("0" * 64, "Dr B", None, clock())


def test_a_running_worker_follows_between_messages(
    model_loader: ModelLoader, registry: Registry, settings: Settings, second: Path, clock: Clock
) -> None:
    first = model_loader.in_force()
    assert model_loader.in_force() is first, "what is open is not opened again"
    registry.promote(second, None, "Dr A", clock(), Waiver(force=True, reason="a test"))
    assert model_loader.in_force().active.digest == digest_of(second)
    registry.rollback("Dr A", None, clock())
    assert model_loader.in_force().active.digest == digest_of(settings.model)


def test_a_model_that_is_refused_leaves_the_old_one_serving_and_is_told(
    model_loader: ModelLoader, registry: Registry, settings: Settings, second: Path, clock: Clock
) -> None:
    model_loader.in_force()
    registry.promote(second, None, "Dr A", clock(), Waiver(force=True, reason="a test"))
    stored = Path(registry.store.place(MODELS, digest_of(second)))
    stored.write_bytes(stored.read_bytes()[:100])
    for _ in range(3):
        assert model_loader.in_force().active.digest == digest_of(settings.model)
    (refusal,) = promotions.registry_state(registry.database).refusals
    assert (refusal.digest, refusal.decided_by) == (digest_of(second), model_loader.name)
    fresh = ModelLoader(settings, registry.database, registry.store, clock)
    assert fresh.in_force().active.digest == digest_of(settings.model), "a worker that starts now does the same"
    stored.write_bytes(second.read_bytes())
    model_loader.retry_at = 0.0
    assert model_loader.in_force().active.digest == digest_of(second)
    assert promotions.registry_state(registry.database).refusals == ()
    actions = [decision.action for decision in promotions.history(registry.database)]
    assert actions == ["installed", "promoted", "refused", "accepted"]


@pytest.mark.slow
def test_the_checkup_names_who_refused_the_active_model(
    model_loader: ModelLoader, registry: Registry, settings: Settings, second: Path, clock: Clock
) -> None:
    in_force = attrs.evolve(settings, database=registry.database.url)

    def look() -> CheckResult:
        return next(finding for finding in check(in_force) if finding.what == "model")

    registry.promote(second, None, "Dr A", clock(), Waiver(force=True, reason="a test"))
    assert look().is_well
    assert "second" in look().message
    assert "no ages: patients of any age can become negatives" in look().message
    promotions.report_proof(registry.database, digest_of(second), "worker@ward-3", "no CUDA there", clock())
    assert not look().is_well
    assert "refused by worker@ward-3" in look().message
    assert "no CUDA there" in look().message
    model_loader.in_force()
    assert not look().is_well, "that another worker accepts it mends nothing on ward 3"
    promotions.report_proof(registry.database, digest_of(second), "worker@ward-3", None, clock())
    assert look().is_well


def test_a_device_that_fails_while_a_model_is_opened_refuses_none_and_no_earlier_one_serves(
    registry: Registry, model_loader: ModelLoader, second: Path, clock: Clock
) -> None:
    first = model_loader.in_force()
    registry.promote(second, None, "Dr A", clock(), Waiver(force=True, reason="a test"))

    def on_a_dead_device(store: Store, digest: str, provider: str) -> OnnxModel:
        opened = stored_model(store, digest, provider)
        return replace(opened, session=PoisonedSession(opened.session, lambda: True))

    def unbound(*_: object) -> OnnxModel:
        raise ProviderUnavailable("asked for CUDA, bound the CPU")

    for opener, fault in ((on_a_dead_device, DeviceUnavailable), (unbound, ProviderUnavailable)):
        for loader in (model_loader, ModelLoader(*given(model_loader), opener=opener)):
            loader.opener = opener
            for _ in range(2):
                with pytest.raises(fault):
                    loader.in_force()
    assert promotions.registry_state(registry.database).refusals == ()
    model_loader.opener = stored_model
    assert model_loader.in_force().active.digest == digest_of(second) != first.active.digest


def given(loader: ModelLoader) -> tuple[Settings, Database, Any, Clock]:
    """What a loader was made of, for another one: a process that starts now."""
    return loader.settings, loader.database, loader.store, loader.clock  # type: ignore[return-value]


def test_a_store_that_is_away_is_waited_for_and_no_fault_of_the_model(
    registry: Registry, model_loader: ModelLoader, clock: Clock, tmp_path: Path
) -> None:
    registry.install(clock())
    model_loader.settings = attrs.evolve(registry.settings, store=registry.store.name, home=tmp_path / "elsewhere")
    store = Path(registry.store.name)
    store.rename(tmp_path / "unmounted")
    with pytest.raises(StorageUnavailable):
        model_loader.in_force()
    (tmp_path / "unmounted").rename(store)
    assert model_loader.in_force().active.digest == digest_of(registry.settings.model)
    assert model_loader.refusals == []


def test_a_worker_without_any_sound_model_says_why(
    model_loader: ModelLoader, registry: Registry, settings: Settings, clock: Clock
) -> None:
    registry.install(clock())
    Path(registry.store.place(MODELS, digest_of(settings.model))).write_bytes(b"damaged")
    with pytest.raises(ModelRefused, match="gone or damaged: is SCREENING_STORE the store of this database"):
        model_loader.in_force()


def test_the_shadow_scores_and_the_active_model_places(
    model_loader: ModelLoader,
    registry: Registry,
    settings: Settings,
    desk: Ledger,
    second: Path,
    tmp_path: Path,
    clock: Clock,
) -> None:
    registry.shadow(second, "Dr A", clock())
    study_uid = received(settings, desk, tmp_path, clock)
    models = model_loader.in_force()
    screener = StudyScreener(settings, desk.database, desk.store, models.active, clock, shadow=models.shadow)
    screen_study(screener, study_uid, clock())
    entry = desk.entry(study_uid)
    assert (entry.verdict, entry.model_digest) == ("not_flagged", digest_of(settings.model))
    with desk.database.reading() as connection:
        rows = connection.execute(text("SELECT model_digest, verdict, shadow_of FROM screening ORDER BY id")).all()
        beside = connection.execute(text("SELECT * FROM shadowing")).one()
        shown = connection.execute(text("SELECT screened FROM turnaround")).scalar_one()
    assert rows == [
        (digest_of(settings.model), "not_flagged", None),
        (digest_of(second), "flagged", digest_of(settings.model)),
    ]
    assert (beside.screened, beside.both_flagged, beside.only_shadow_flagged) == (1, 0, 1)
    assert shown == 1, "the shadow's result is no second screening"
    registry.promote(second, None, "Dr A", clock(), Waiver(force=True, reason="a test"))
    after = model_loader.in_force()
    assert (after.active.digest, after.shadow) == (digest_of(second), None)
    assert desk.entry(study_uid).model_digest == digest_of(settings.model), "a result stays its model's"


class Faulty(OnnxModel):
    """A model with a bug."""

    def predict(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        raise ZeroDivisionError(f"{len(batch)} by nothing")


def test_a_bug_of_the_shadow_costs_no_study_its_verdict(
    model_loader: ModelLoader, settings: Settings, desk: Ledger, tmp_path: Path, clock: Clock
) -> None:
    study_uid = received(settings, desk, tmp_path, clock)
    active = model_loader.in_force().active
    screener = StudyScreener(settings, desk.database, desk.store, active, clock, shadow=Faulty(**vars(active)))
    bug = screen_study(screener, study_uid, clock())
    assert isinstance(bug, ZeroDivisionError), "the task tells of it"
    assert (desk.study(study_uid).state, desk.entry(study_uid).verdict) == ("screened", "not_flagged")


def received(settings: Settings, desk: Ledger, tmp_path: Path, clock: Clock) -> str:
    """A study that has been offered; its UID."""
    file = incoming(write_image(tmp_path / "inbox" / "grey.png", 80))
    assert file is not None
    intake = Intake(settings, desk.database, desk.store)
    booked = intake.take_in(file, clock(), is_final=True, is_settled=True, inbox=tmp_path / "inbox")
    assert booked.study_uid is not None
    outbox.offer(desk.database, clock())
    return booked.study_uid


def test_a_retired_shadow_no_longer_scores(
    model_loader: ModelLoader, registry: Registry, second: Path, clock: Clock
) -> None:
    registry.shadow(second, "Dr A", clock())
    assert model_loader.in_force().shadow is not None
    with pytest.raises(PromotionRefused, match="is the shadow already"):
        registry.shadow(second, "Dr A", clock())
    registry.retire(digest_of(second), "Dr A", None, clock())
    assert model_loader.in_force().shadow is None


def test_decisions_survive_the_migration_of_an_older_database(empty_url: str) -> None:
    command.upgrade(alembic_config(empty_url), "0001")
    database = Database(empty_url)
    with database.writing() as session:
        session.execute(text("INSERT INTO model_version VALUES ('d', 'n', 'r', 0.5, '{}', '2026-01-01 00:00:00')"))
    upgrade(empty_url)
    assert promotions.registry_state(database).active is None
    with database.reading() as connection:
        assert connection.execute(text("SELECT name FROM model_version")).scalar_one() == "n"
    database.close()
