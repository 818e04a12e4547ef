"""Several studies of a message at a time: each ends once, independently of the others."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from schema.vocabulary import Priority
from tests import crashing_decoder
from tests.acceptance.installation import wait_until
from tests.brightness_model import write_model
from tests.ledger import STUDY, Ledger
from tests.phantoms import JPEG_LS, dicom_file, picture
from worker.app import messages
from worker.decoding.decoder import Decoder
from worker.decoding.pool import DecoderPool
from worker.errors import DeviceUnavailable, SchemaOutdated
from worker.inference.batching import BatchingModel
from worker.inference.model import Model, OnnxModel, open_model
from worker.inference.prediction import Prediction
from worker.intake.folder_scan import files_in
from worker.intake.ingest import Intake
from worker.ledger import decisions
from worker.ledger.screening import claims, outbox
from worker.ledger.screening.message import screen_each
from worker.ledger.screening.outbox import Backlog, Offer
from worker.ledger.screening.results import Claim, Result
from worker.monitoring.reconciliation import reconcile
from worker.screen_study import Judgement, StudyScreener

STUDIES, AT_ONCE = 8, 4

#: Greys of images: one on which the device fails, one at which the model stumbles, one that takes long.
LOST, ODD, SLOW = 20, 40, 60

UIDS = [f"1.2.3.{number}" for number in range(STUDIES)]


class Moody:
    """A model on a device that fails at some images."""

    def __init__(self, model: OnnxModel) -> None:
        self.card, self.digest, self.provider, self.model = model.card, model.digest, model.provider, model
        self.is_lost = True

    def predict(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        """The real answers, if any."""
        grey = int(batch[0, 4, 4, 0])
        if grey == LOST and self.is_lost:
            raise DeviceUnavailable("the device is lost")
        if grey == ODD:
            raise LookupError("a bug")
        return self.model.predict(batch)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return open_model(write_model(tmp_path_factory.mktemp("model") / "brightness.onnx"), provider="cpu")


@pytest.fixture(scope="module")
def decoders() -> Iterator[DecoderPool]:
    with closing(
        DecoderPool([Decoder(memory_mib=2048, program=crashing_decoder.PROGRAM) for _ in range(2)])
    ) as decoders:
        yield decoders


@pytest.fixture
def thread_pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield pool


def offered(desk: Ledger, inbox: Path, greys: list[int], crash: int | None = None) -> list[Offer]:
    """A study of one image for each grey, taken in and offered; the codec of `crash` kills its child."""
    inbox.mkdir()
    for number, (uid, grey) in enumerate(zip(UIDS, greys, strict=True)):
        pixels = np.full((40, 40), grey, np.uint8)
        pixels[0, 0] = 255 - grey
        names: dict[str, Any] = {
            "StudyInstanceUID": uid,
            "SeriesInstanceUID": f"{uid}.1",
            "SOPInstanceUID": f"{uid}.1.1",
        }
        plain = dicom_file(pixels, WindowCenter=128, WindowWidth=256, **names)
        file = dicom_file(picture(bits=8), JPEG_LS, ImageComments="CODEC-CRASH ", **names) if number == crash else plain
        (inbox / f"{number}.dcm").write_bytes(file)
    intake = Intake(desk.settings, desk.database, desk.store)
    for path in files_in(inbox):
        intake.take_in(path, desk.clock(), is_final=True, is_settled=True, inbox=inbox)
    return outbox.offer(desk.database, desk.clock())


def bench_of(desk: Ledger, model: Model, decoders: DecoderPool) -> StudyScreener:
    return StudyScreener(desk.settings, desk.database, desk.store, model, desk.clock, decoder=decoders)


def test_each_study_of_a_message_ends_in_its_own_way(
    desk: Ledger, model: OnnxModel, decoders: DecoderPool, thread_pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    offered(desk, tmp_path / "inbox", [120, 130, LOST, 140, ODD, 150, 200, 160], crash=6)
    moody = Moody(model)
    screener = bench_of(desk, moody, decoders)
    ends = screen_each(screener, UIDS, desk.clock(), thread_pool)
    assert [type(end) for end in ends] == [
        {2: DeviceUnavailable, 4: LookupError}.get(number, type(None)) for number in range(STUDIES)
    ]
    states = {number: desk.study(uid).state for number, uid in enumerate(UIDS)}
    assert states == dict.fromkeys(range(STUDIES), "screened") | {2: "queued", 4: "failed"}
    assert desk.study(UIDS[2]).attempts == 0
    assert desk.study(UIDS[4]).failure_code == "unexpected_error"
    assert desk.entry(UIDS[6]).verdict_detail == "decoder_crashed"
    moody.is_lost = False
    assert screen_each(screener, UIDS, desk.clock(), thread_pool) == [None] * STUDIES  # as a message that comes twice
    assert desk.count("screening") == STUDIES - 1, "each that did not fail once"
    assert reconcile(desk.database, desk.store).holds


def test_studies_that_share_a_model_keep_their_own_answers(
    desk: Ledger, model: OnnxModel, decoders: DecoderPool, thread_pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    greys = [60 + 20 * number for number in range(STUDIES)]
    offered(desk, tmp_path / "inbox", greys)
    assert (
        screen_each(bench_of(desk, BatchingModel(model), decoders), UIDS, desk.clock(), thread_pool) == [None] * STUDIES
    )
    found = [desk.entry(uid).probability for uid in UIDS]
    assert found == pytest.approx([grey / 255 for grey in greys], abs=0.03)
    assert desk.count("screening") == STUDIES


@pytest.fixture(params=["one after the other", "at once"])
def threads(request: pytest.FixtureRequest, thread_pool: ThreadPoolExecutor) -> ThreadPoolExecutor | None:
    """How the studies of a message are screened."""
    return thread_pool if request.param == "at once" else None


class Stumbling(StudyScreener):
    """It meets a bug when it records one of the studies."""

    def record(self, judgements: Sequence[Judgement]) -> list[bool | Exception]:
        """Record the others."""
        if any(judgement.result.claim.study_uid == UIDS[3] for judgement in judgements):
            raise ValueError("a bug")
        return super().record(judgements)


def test_a_bug_while_results_are_recorded_is_a_failure_of_its_study(
    desk: Ledger, model: OnnxModel, decoders: DecoderPool, threads: ThreadPoolExecutor | None, tmp_path: Path
) -> None:
    offered(desk, tmp_path / "inbox", [100] * STUDIES)
    screener = Stumbling(desk.settings, desk.database, desk.store, model, desk.clock, decoder=decoders)
    ends = screen_each(screener, UIDS, desk.clock(), threads)
    assert [type(end) for end in ends] == [ValueError if n == 3 else type(None) for n in range(STUDIES)]
    assert [desk.study(uid).state for uid in UIDS] == ["failed" if n == 3 else "screened" for n in range(STUDIES)]
    assert (desk.study(UIDS[3]).failure_code, desk.study(UIDS[3]).claim) == ("unexpected_error", None)


class StumblingBeside(StudyScreener):
    """What its shadow says of one of the studies cannot be recorded."""

    def judge(self, held: Claim) -> Judgement:
        """The verdict, and a result of the shadow without findings."""
        judgement = super().judge(held)
        if held.study_uid != UIDS[3] or not isinstance(judgement.shadow, Result):
            return judgement
        return replace(judgement, shadow=replace(judgement.shadow, outcomes=None))  # type: ignore[arg-type]


def test_a_bug_while_a_shadow_is_recorded_costs_no_verdict(
    desk: Ledger, model: OnnxModel, decoders: DecoderPool, tmp_path: Path
) -> None:
    offered(desk, tmp_path / "inbox", [100] * STUDIES)
    shadow = Moody(model)
    shadow.digest = "f" * 64
    screener = StumblingBeside(
        desk.settings, desk.database, desk.store, model, desk.clock, shadow=shadow, decoder=decoders
    )
    ends = screen_each(screener, UIDS, desk.clock(), None)
    assert [type(end) for end in ends] == [TypeError if n == 3 else type(None) for n in range(STUDIES)]
    assert {desk.study(uid).state for uid in UIDS} == {"screened"}
    assert desk.count("screening") == 2 * STUDIES - 1


def test_a_bug_in_the_verdict_of_a_shadow_costs_no_verdict(
    desk: Ledger, model: OnnxModel, decoders: DecoderPool, tmp_path: Path
) -> None:
    offered(desk, tmp_path / "inbox", [100] * STUDIES)
    shadow = Moody(model)
    shadow.digest = "f" * 64
    del shadow.provider  # asked for when its verdict is made
    screener = replace(bench_of(desk, model, decoders), shadow=shadow)
    ends = screen_each(screener, UIDS, desk.clock(), None)
    assert {type(end) for end in ends} == {AttributeError}, "the task tells of it"
    assert {desk.study(uid).state for uid in UIDS} == {"screened"}


def test_an_outdated_database_ends_no_study_and_gives_the_claims_back(
    desk: Ledger, model: OnnxModel, decoders: DecoderPool, threads: ThreadPoolExecutor | None, tmp_path: Path
) -> None:
    offered(desk, tmp_path / "inbox", [100] * STUDIES)
    with desk.database.writing() as session:
        session.execute(text("ALTER TABLE screening RENAME COLUMN worked_s TO other"))
    with pytest.raises(SchemaOutdated):
        screen_each(bench_of(desk, model, decoders), UIDS, desk.clock(), threads)
    found = {(desk.study(uid).state, desk.study(uid).attempts, desk.study(uid).claim) for uid in UIDS}
    assert found == {("queued", 0, None)}


def test_a_verdict_that_the_database_refuses_is_a_failure_of_its_study(
    desk: Ledger, model: OnnxModel, decoders: DecoderPool, threads: ThreadPoolExecutor | None, tmp_path: Path
) -> None:
    offered(desk, tmp_path / "inbox", [100] * STUDIES)
    desk.refuse(UIDS[3])
    ends = screen_each(bench_of(desk, model, decoders), UIDS, desk.clock(), threads)
    assert [type(end) for end in ends] == [IntegrityError if n == 3 else type(None) for n in range(STUDIES)]
    assert [desk.study(uid).state for uid in UIDS] == ["failed" if n == 3 else "screened" for n in range(STUDIES)]
    assert "refuse" in desk.study(UIDS[3]).failure_detail


@pytest.mark.parametrize("kind", ["postgresql"])
def test_a_study_that_cannot_be_claimed_is_logged_as_a_bug(
    desk: Ledger, model: OnnxModel, decoders: DecoderPool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    offered(desk, tmp_path / "inbox", [100] * STUDIES)
    first, broken = screen_each(bench_of(desk, model, decoders), [UIDS[0], "1.2\0.3"], desk.clock(), None)
    assert first is None
    assert isinstance(broken, Exception)
    (told,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert told.message == "study_not_claimed"
    assert type(broken).__name__ in vars(told)["kind"]


class Slow(Moody):
    """A model that takes as long at some images as other work needs."""

    def __init__(self, model: OnnxModel, meanwhile: Callable[[], None]) -> None:
        super().__init__(model)
        self.meanwhile = meanwhile

    def predict(self, batch: NDArray[np.uint8]) -> list[Prediction]:
        """The real answers, after that work."""
        if int(batch[0, 4, 4, 0]) == SLOW:
            self.meanwhile()
        return self.model.predict(batch)


def test_a_study_that_hangs_does_not_keep_back_the_verdicts_of_others(
    desk: Ledger, model: OnnxModel, decoders: DecoderPool, threads: ThreadPoolExecutor | None, tmp_path: Path
) -> None:
    desk.settings = attrs.evolve(desk.settings, heartbeat_s=0.05)
    offered(desk, tmp_path / "inbox", [120] * (STUDIES - 1) + [SLOW])
    slow = Slow(model, lambda: wait_until(lambda: desk.study(UIDS[0]).state == "screened", 150))
    ends = screen_each(bench_of(desk, slow, decoders), UIDS, desk.clock(), threads)
    assert ends == [None] * STUDIES
    assert {desk.study(uid).state for uid in UIDS} == {"screened"}


def test_a_study_set_to_stat_does_not_wait_behind_a_slow_one_of_its_message(
    desk: Ledger, model: OnnxModel, decoders: DecoderPool, tmp_path: Path
) -> None:
    desk.settings = attrs.evolve(desk.settings, heartbeat_s=0.05)
    offered(desk, tmp_path / "inbox", [SLOW] + [120] * (STUDIES - 1))

    def set_to_stat() -> None:
        decisions.prioritise(desk.database, UIDS[-1], Priority.STAT, "Dr A", desk.clock())
        wait_until(lambda: desk.study(UIDS[-1]).state == "queued", 150)

    screener = bench_of(desk, Slow(model, set_to_stat), decoders)
    assert screen_each(screener, UIDS, desk.clock(), None) == [None] * STUDIES
    assert [desk.study(uid).state for uid in UIDS] == ["screened"] * (STUDIES - 1) + ["queued"]
    assert desk.study(UIDS[-1]).attempts == 0
    again = outbox.reoffer(desk.database, desk.settings, desk.clock(), Backlog())
    assert [(offer.study_uid, offer.queue) for offer in again] == [(UIDS[-1], Priority.STAT)]


def test_a_study_that_kills_workers_takes_one_attempt_of_its_neighbours_and_no_more(desk: Ledger) -> None:
    neighbours, poison = [f"{STUDY}.{number}" for number in range(AT_ONCE - 1)], f"{STUDY}.99"
    for uid in (*neighbours, poison):
        desk.receive(uid, content=uid)
    desk.offer()
    for death in range(desk.settings.max_attempts):
        held = [desk.claim(uid) for uid in ((*neighbours, poison) if death == 0 else (poison,))]
        assert held  # and their worker dies
        now = desk.clock.forward(seconds=desk.settings.lease_s + 1)
        assert claims.take_back_lapsed(desk.database, desk.settings, now) == len(held)
        again = outbox.reoffer(desk.database, desk.settings, now, Backlog())
        sent = [[offer.study_uid for offer in message] for message in messages(again, 16, AT_ONCE)]
        if death == 0:
            assert sorted(sent) == [[uid] for uid in sorted((*neighbours, poison))]
            assert {desk.study(uid).attempts for uid in neighbours} == {1}
            for uid in neighbours:
                assert desk.record(desk.claim(uid), 0.1)
    assert (desk.study(poison).state, desk.study(poison).failure_code) == ("failed", "attempts_exhausted")
    assert {(desk.study(uid).state, desk.study(uid).attempts) for uid in neighbours} == {("screened", 0)}
