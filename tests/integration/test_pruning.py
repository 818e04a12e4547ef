"""Pruning removes data of studies that were read long ago and nothing else; files and rows agree afterwards."""

import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import attrs
import pytest

from schema.vocabulary import AuditAction, FileState, Priority, ReviewOutcome
from tests.acceptance.installation import wait_until
from tests.ledger import STUDY, Ledger, image
from worker.errors import NotRequeueable, StorageUnavailable
from worker.ledger import decisions
from worker.ledger.audit import trail
from worker.ledger.intake import files, register
from worker.ledger.intake.arrivals import Incoming, Receipt
from worker.ledger.pruning import Pruned, keep_quota, prune
from worker.monitoring.reconciliation import reconcile
from worker.store import OBJECTS, OVERLAYS, Stored
from worker.store.capacity import Capacity
from worker.store.folder import FolderStore

A, B, C = (f"{STUDY}.{n}" for n in (1, 2, 3))
YEAR = timedelta(days=365)
OBJECT, OVERLAY = 1000, 100


def receive(desk: Ledger, study_uid: str, probability: float = 0.1, size: int = OBJECT) -> None:
    """A screened study whose object and overlay really are in the store, two days old."""
    digest = desk.store.put(OBJECTS, study_uid.encode().ljust(size))
    header = image(study_uid, f"{study_uid}.1.1")
    file = Incoming(f"/inbox/{study_uid}.dcm", size, 1, Priority.ROUTINE)
    receipt = Receipt(file, header, digest, left_at=None, is_settled=True)
    register.register(desk.database, receipt, desk.settings, desk.clock())
    desk.screen(study_uid, probability)
    age(desk)


def age(desk: Ledger, days: int = 2) -> None:
    for kind in (OBJECTS, OVERLAYS):
        for stored in desk.store.files(kind):
            moment = desk.clock.now.timestamp() - days * 86400
            os.utime(stored.place, (moment, moment))


def read(desk: Ledger, study_uid: str) -> None:
    decisions.review(desk.database, study_uid, ReviewOutcome.NO_PNEUMONIA, "Dr A", None, desk.clock())
    desk.clock.forward(1)


def pruned(desk: Ledger, older_than: timedelta = YEAR, quota_bytes: int | None = None) -> Pruned:
    found = prune(desk.database, desk.store, desk.clock(), older_than, quota_bytes)
    account = reconcile(desk.database, desk.store)
    assert account.holds, account
    return found


def test_what_was_read_long_ago_goes_and_what_is_unread_stays_however_old(desk: Ledger) -> None:
    for study_uid in (A, B, C):
        receive(desk, study_uid)
    read(desk, A)
    assert pruned(desk).files == 0, "read today"
    desk.clock.forward(hours=366 * 24)
    read(desk, B)
    found = pruned(desk)
    assert (found.studies, found.files, found.freed_bytes, found.kept_bytes) == (1, 1, OBJECT, 2 * OBJECT)
    assert [entry.study_uid for entry in desk.worklist()] == [C]
    assert (desk.study(A).state, desk.count("review"), desk.count("screening")) == ("screened", 2, 3)
    assert pruned(desk) == Pruned(0, 0, 0, 0, 2 * OBJECT)


def test_a_pruned_study_is_not_screened_again_until_it_is_sent_again(desk: Ledger) -> None:
    receive(desk, A)
    read(desk, A)
    pruned(desk, timedelta(0))
    with pytest.raises(NotRequeueable, match="pruned"):
        decisions.requeue(desk.database, A, desk.settings, desk.clock())
    assert decisions.rescreen(desk.database, A, desk.settings, desk.clock()) is False
    digest = desk.store.put(OBJECTS, A.encode().ljust(OBJECT))
    file = Incoming("/inbox/again.dcm", OBJECT, 2, Priority.ROUTINE)
    receipt = Receipt(file, image(A, f"{A}.1.1"), digest, left_at=None, is_settled=True)
    assert register.register(desk.database, receipt, desk.settings, desk.clock()).state is FileState.DUPLICATE
    assert decisions.requeue(desk.database, A, desk.settings, desk.clock()) == A


def test_a_quota_takes_the_longest_read_first_and_no_more_than_it_must(desk: Ledger) -> None:
    for study_uid in (A, B, C):
        receive(desk, study_uid)
    read(desk, B)
    read(desk, A)
    assert pruned(desk, quota_bytes=2 * OBJECT).studies == 1
    assert [desk.store.has(OBJECTS, d) for d in digests(desk)] == [True, False, True], "B was read first"
    found = pruned(desk, quota_bytes=0)
    assert (found.studies, found.kept_bytes) == (1, OBJECT), "the unread one stays above any quota"


def test_what_came_today_is_let_go_of_once_however_often_room_is_made(desk: Ledger) -> None:
    for study_uid in (A, B, C):
        receive(desk, study_uid)
    read(desk, A)
    read(desk, B)
    age(desk, days=0)
    assert pruned(desk, quota_bytes=2 * OBJECT) == Pruned(1, 0, 0, 0, 3 * OBJECT), "its file stays for a day"
    assert pruned(desk, quota_bytes=2 * OBJECT).studies == 0, "and counts as gone meanwhile"
    desk.clock.forward(hours=25)
    assert pruned(desk, quota_bytes=2 * OBJECT) == Pruned(0, 0, 1, OBJECT, 2 * OBJECT)


class SlowStore(FolderStore):
    """One that is listed when it may be."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may_list = threading.Event()

    def files(self, kind: str) -> Iterator[Stored]:
        assert self.may_list.wait(60)
        yield from super().files(kind)


def test_who_only_looks_waits_for_no_measure_of_the_store(desk: Ledger) -> None:
    receive(desk, STUDY, size=2 * 2**20)
    store, capacity = SlowStore(desk.store.folder), Capacity(waits_for_measure=False)
    settings = attrs.evolve(desk.settings, store_quota_mib=1)
    assert "is being measured" in capacity.require(settings, store, desk.clock())
    store.may_list.set()
    wait_until(lambda: capacity.measured_at is not None, 60)
    with pytest.raises(StorageUnavailable, match="SCREENING_STORE_QUOTA_MIB is 1"):
        capacity.require(settings, store, desk.clock())


def test_the_quota_of_the_settings_is_kept_from_nearly_full_on_and_with_some_air(desk: Ledger) -> None:
    settings, capacity = attrs.evolve(desk.settings, store_quota_mib=1), Capacity()
    big = 120_000
    for number in range(9):  # 1.08 of 1.05 million bytes
        receive(desk, f"{STUDY}.{number}", size=big)
        read(desk, f"{STUDY}.{number}")
    made = keep_quota(settings, desk.database, desk.store, capacity, desk.clock())
    assert made == Pruned(2, 0, 2, 2 * big, 7 * big)
    (noted,) = (e for e in trail(desk.database, desk.clock() - YEAR) if e.deed == AuditAction.PRUNED)
    assert (noted.who, noted.detail) == ("setting SCREENING_STORE_QUOTA_MIB", made.sentence)
    receive(desk, f"{STUDY}.9", size=big)
    desk.clock.forward(30)
    assert keep_quota(settings, desk.database, desk.store, capacity, desk.clock()) is None, "measured half a minute ago"
    desk.clock.forward(31)
    assert keep_quota(settings, desk.database, desk.store, capacity, desk.clock()) is None, "it is not near"
    assert capacity.held_bytes == 8 * big
    assert keep_quota(desk.settings, desk.database, desk.store, Capacity(), desk.clock()) is None, "no quota is set"
    assert reconcile(desk.database, desk.store).holds


def test_the_store_is_pruned_though_intake_has_just_measured_the_store(desk: Ledger) -> None:
    """Under load, intake measures the store before each file; the watcher must still find that pruning is due."""
    settings, capacity = attrs.evolve(desk.settings, store_quota_mib=1), Capacity()
    big = 120_000
    for number in range(8):
        receive(desk, f"{STUDY}.{number}", size=big)
        read(desk, f"{STUDY}.{number}")
    capacity.require(settings, desk.store, desk.clock())
    assert keep_quota(settings, desk.database, desk.store, capacity, desk.clock()) is None, "it is not near"
    capacity.add(big)
    receive(desk, f"{STUDY}.8", size=big)
    made = keep_quota(settings, desk.database, desk.store, capacity, desk.clock())
    assert made is not None
    assert made.studies == 2
    assert keep_quota(settings, desk.database, desk.store, capacity, desk.clock()) is None, "just made"


def test_old_quarantined_files_and_what_no_row_claims_go_too(desk: Ledger) -> None:
    receive(desk, A)
    letter = desk.store.put(OBJECTS, b"Dear colleague")
    file = Incoming("/inbox/letter.txt", 14, 1, Priority.ROUTINE)
    files.quarantine(desk.database, file, "not_an_image", "no image", letter, desk.clock(), in_store=True)
    desk.store.put(OVERLAYS, bytes(OVERLAY))
    fresh = desk.store.put(OBJECTS, b"its row is on its way")
    draft = desk.store.path(OBJECTS, fresh).with_name(".draft.partial")
    draft.write_bytes(b"half")
    age(desk)
    os.utime(desk.store.path(OBJECTS, fresh), (desk.clock.now.timestamp(),) * 2)
    found = pruned(desk)
    assert (found.quarantined, found.files, found.freed_bytes) == (0, 2, OVERLAY + 4)
    desk.clock.forward(hours=366 * 24)
    found = pruned(desk)
    assert (found.quarantined, found.files) == (1, 2)
    assert desk.store.has(OBJECTS, digests(desk)[0])


def digests(desk: Ledger) -> list[str]:
    """Of the objects of A, B, C as far as they were received."""
    with desk.database.reading() as connection:
        rows = connection.exec_driver_sql("SELECT digest FROM instance ORDER BY id")
        return [str(digest) for (digest,) in rows]
