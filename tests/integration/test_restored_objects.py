"""A store that lost bytes, or holds others in their place, is healed by sending the file again; its study is screened
afresh."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from schema.setting_values import InboxMode
from schema.vocabulary import FileState, Reason, ReviewOutcome
from tests.ledger import Ledger
from tests.phantoms import JPEG_LS, STUDY_UID, dicom_file, picture
from worker.intake.folder_scan import incoming
from worker.intake.ingest import Intake
from worker.ledger import decisions, pruning
from worker.ledger.intake.arrivals import Registration
from worker.ledger.screening import claims
from worker.monitoring.reconciliation import reconcile
from worker.store import OBJECTS, OVERLAYS, Store, sums_of
from worker.store.folder import FolderStore

if TYPE_CHECKING:
    from tests.object_store import ObjectStore

CONTENT = dicom_file(picture())
DIGEST = sums_of(CONTENT)[0]
FLIPPED = CONTENT[:-5] + bytes([CONTENT[-5] ^ 1]) + CONTENT[-4:]


@pytest.fixture(params=["folder", "bucket"])
def kept_in(request: pytest.FixtureRequest, desk: Ledger) -> Store:
    """A store of each kind."""
    if request.param == "folder":
        return desk.store
    served: ObjectStore = request.getfixturevalue("served_objects")
    return served.store(request.getfixturevalue("bucket"))


@pytest.fixture
def damage(kept_in: Store) -> Callable[[str, bytes | None], None]:
    """Puts other bytes, or none, where the content of a digest lies."""

    def write(digest: str, content: bytes | None) -> None:
        if isinstance(kept_in, FolderStore):
            path = kept_in.path(OBJECTS, digest)
            path.unlink() if content is None else path.write_bytes(content)
            return
        key = kept_in.place(OBJECTS, digest).removeprefix("s3://")
        s3 = kept_in._s3  # type: ignore[attr-defined]
        s3.rm_file(key) if content is None else s3.pipe_file(key, content)

    return write


def bring(
    desk: Ledger, store: Store, folder: Path, content: bytes = CONTENT, mode: InboxMode = InboxMode.MOVE
) -> Registration:
    path = folder / "a.dcm"
    path.write_bytes(content)
    file = incoming(path)
    assert file is not None
    intake = Intake(attrs.evolve(desk.settings, inbox_mode=mode), desk.database, store)
    booked = intake.take_in(file, desk.clock.forward(1), is_final=True, is_settled=True, inbox=folder)
    assert reconcile(desk.database, store).holds
    return booked


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (FLIPPED, InboxMode.MOVE), (CONTENT[:-100], InboxMode.MOVE), (b"", InboxMode.COPY), (None, InboxMode.MOVE),
        (FLIPPED, InboxMode.LEAVE),
    ],
    ids=["flipped", "short", "empty", "gone", "flipped, and files are left in the inbox"],
)  # fmt: skip
def test_what_the_store_lost_is_healed_and_screened_afresh(
    desk: Ledger, kept_in: Store, damage: Callable[..., None], tmp_path: Path, content: bytes | None, mode: InboxMode
) -> None:
    bring(desk, kept_in, tmp_path)
    desk.screen(STUDY_UID, 0.1)
    damage(DIGEST, content)
    booked = bring(desk, kept_in, tmp_path, mode=mode)
    assert (booked.state, "restored" in booked.message) == (FileState.DUPLICATE, True)
    assert kept_in.get(OBJECTS, DIGEST) == CONTENT
    study = desk.study(STUDY_UID)
    assert (study.state, study.revision, study.reason) == ("received", 2, Reason.REQUEUED)
    assert [r.digest for r in desk.screen(STUDY_UID, 0.9).received] == [DIGEST]
    assert desk.entry(STUDY_UID).verdict == "flagged"


def test_what_is_there_is_a_duplicate_and_nothing_more(desk: Ledger, kept_in: Store, tmp_path: Path) -> None:
    bring(desk, kept_in, tmp_path)
    desk.screen(STUDY_UID, 0.1)
    booked = bring(desk, kept_in, tmp_path)
    assert (booked.state, "restored" in booked.message) == (FileState.DUPLICATE, False)
    assert (desk.study(STUDY_UID).state, desk.study(STUDY_UID).revision) == ("screened", 1)


def test_a_worker_that_is_at_it_is_overtaken(
    desk: Ledger, kept_in: Store, damage: Callable[..., None], tmp_path: Path
) -> None:
    bring(desk, kept_in, tmp_path)
    held = desk.claim(STUDY_UID)
    damage(DIGEST, FLIPPED)
    bring(desk, kept_in, tmp_path)
    assert not desk.record(held, 0.1), "it may have read the damaged bytes"
    claims.give_back_all(desk.database, [held], desk.clock())
    assert desk.study(STUDY_UID).state == "received"


def test_a_study_that_was_read_and_pruned_is_left(desk: Ledger, tmp_path: Path) -> None:
    desk.clock.now = datetime.now(UTC)  # that of the files in the store
    bring(desk, desk.store, tmp_path)
    desk.screen(STUDY_UID, 0.1)
    decisions.review(desk.database, STUDY_UID, ReviewOutcome.NO_PNEUMONIA, "Dr A", None, desk.clock())
    after = desk.clock.forward(hours=240)
    pruning.prune(desk.database, desk.store, after, older_than=after - after, quota_bytes=None)
    assert not desk.store.has(OBJECTS, DIGEST)
    bring(desk, desk.store, tmp_path)
    assert (desk.study(STUDY_UID).state, desk.study(STUDY_UID).revision) == ("screened", 1)


def test_a_twin_whose_bytes_are_lost_is_not_answered_for_by_what_is_remembered_of_it(
    desk: Ledger, tmp_path: Path
) -> None:
    intake = Intake(desk.settings, desk.database, desk.store)

    def take(name: str, content: bytes) -> FileState:
        path = tmp_path / name
        path.write_bytes(content)
        file = incoming(path)
        assert file is not None
        return intake.take_in(file, desk.clock(), is_final=True, is_settled=True, inbox=tmp_path).state

    first = dicom_file(picture(), bits=12)
    assert take("a", first) is FileState.ACCEPTED
    assert take("b", dicom_file(picture(), JPEG_LS, bits=12)) is FileState.DUPLICATE
    desk.store.path(OBJECTS, sums_of(first)[0]).write_bytes(b"damaged")
    assert take("c", dicom_file(picture(), bits=12, ImageComments="sent again")) is FileState.CONFLICT


def test_everything_that_is_put_is_proved(desk: Ledger) -> None:
    digest = desk.store.put(OVERLAYS, b"a picture")
    desk.store.path(OVERLAYS, digest).write_bytes(b"a pictura")
    assert not desk.store.keep(OVERLAYS, b"a picture").is_proved
    assert desk.store.get(OVERLAYS, digest) == b"a picture"
    assert desk.store.keep(OVERLAYS, b"a picture").is_proved
