"""Whoever wants to write to a file while it is taken in loses no byte, and never writes into the store; what cannot be
held or linked is copied."""

import os
import stat
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from errno import EACCES
from pathlib import Path

import attrs
import numpy as np
import pytest
from sqlalchemy import Connection

from schema.setting_values import StoreLink
from tests.acceptance.installation import wait_until
from tests.phantoms import dicom_file, picture
from tests.watched_inbox import CHEST, WatchedInbox, another
from worker.errors import DatabaseUnavailable, Unreadable
from worker.intake.held_file import HeldFile, Step
from worker.intake.ingest import Intake
from worker.intake.link_probe import how_taken_in
from worker.intake.reader import ReadFile
from worker.intake.source_file import SourceFile
from worker.intake.write_lease import take_lease
from worker.intake.writers_watch import watching_writers
from worker.ledger.intake.arrivals import Registration
from worker.store import OBJECTS, sums_of
from worker.store.links import FolderLinks

DIGEST = sums_of(CHEST)[0]
LATER = another(7)

pytestmark = pytest.mark.parametrize("kind", ["sqlite"])


def settle(watched: WatchedInbox, at_step: Callable[[Step], None] = lambda _: None) -> dict[str, int]:
    """Two listings, with the quiet time between them."""
    watched.watcher.intake = replace(watched.watcher.intake, at_step=at_step)
    watched.scan()
    return watched.scan(10)


def stored(watched: WatchedInbox, digest: str = DIGEST) -> Path:
    return watched.desk.store.path(OBJECTS, digest)


def is_being_broken(path: Path) -> bool:
    """Whether somebody waits for the lease on a file to end (proc(5), locks)."""
    inode = f":{path.stat().st_ino} "
    locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return any("BREAKING" in line and inode in line for line in locks)


def refuse(*_: object) -> None:
    """In place of a link, where the system grants none."""
    raise PermissionError(EACCES, "refused")


def test_a_file_is_linked_and_not_copied(watched: WatchedInbox) -> None:
    inode = watched.drop("a.dcm").stat().st_ino
    assert settle(watched) == {"accepted": 1}
    status = stored(watched).stat()
    assert (status.st_ino, status.st_nlink, stat.S_IMODE(status.st_mode)) == (inode, 1, 0o600)
    assert (stored(watched).read_bytes(), watched.left()) == (CHEST, [])


@pytest.mark.parametrize("step", [Step.READ, Step.LINKED, Step.STORED, Step.BOOKED, Step.MARKED])
def test_a_writer_that_comes_after_a_step_waits_and_loses_nothing(watched: WatchedInbox, step: Step) -> None:
    path = watched.drop("a.dcm")
    mode = stat.S_IMODE(path.stat().st_mode)

    def overwrite() -> None:
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(LATER)

    writer = threading.Thread(target=overwrite)

    def begin(done: Step) -> None:
        if done is step and writer.ident is None:
            writer.start()
            wait_until(lambda: is_being_broken(path), 60)

    assert settle(watched, begin) == {"accepted": 1}
    writer.join(60)
    assert (stored(watched).read_bytes(), stored(watched).stat().st_nlink) == (CHEST, 1)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (LATER, mode)
    assert settle(watched) == {"accepted": 2}
    assert (stored(watched, sums_of(LATER)[0]).read_bytes(), watched.left()) == (LATER, [])


def test_a_file_that_a_writer_waits_for_is_parted_from_the_store_before_it_is_booked(watched: WatchedInbox) -> None:
    path = watched.drop("a.dcm")
    writer = threading.Thread(target=lambda: path.open("ab").close())
    apart = []

    def begin(step: Step) -> None:
        if step is Step.STORED and writer.ident is None:
            writer.start()
            wait_until(lambda: is_being_broken(path), 60)
        elif step is Step.BOOKED:
            apart.append(not path.samefile(stored(watched)))

    settle(watched, begin)
    writer.join(60)
    assert apart == [True]


@pytest.mark.parametrize("files", [1, 3])
def test_a_writer_that_comes_while_the_database_is_slow_does_not_reach_the_store(
    watched: WatchedInbox, files: int
) -> None:
    """The system lets it in after 45 s, whether the commit is over or not: the stored file is another one by then."""
    path = watched.drop("a.dcm")
    for number in range(1, files):
        watched.drop(f"{number}.dcm", another(100 + number))

    def overwrite() -> None:
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(LATER)

    writer = threading.Thread(target=overwrite)

    def be_slow(_: Connection) -> None:
        if path.exists() and stored(watched).exists() and writer.ident is None:
            assert path.samefile(stored(watched))
            writer.start()
            wait_until(lambda: is_being_broken(path), 60)
            wait_until(lambda: not path.samefile(stored(watched)), 60)

    watched.watcher.intake = replace(watched.watcher.intake, guard=be_slow)
    assert settle(watched) == {"accepted": files}
    writer.join(60)
    assert (stored(watched).read_bytes(), stored(watched).stat().st_nlink) == (CHEST, 1)
    assert (path.read_bytes(), watched.left()) == (LATER, ["a.dcm"])
    assert settle(watched) == {"accepted": files + 1}
    assert (stored(watched, sums_of(LATER)[0]).read_bytes(), watched.left()) == (LATER, [])


@dataclass(frozen=True)
class LinksOutOfMemory(FolderLinks):
    """The store cannot part its first file from the inbox, by an error that nobody foresaw, and can then."""

    refused: list[str] = field(default_factory=list)

    def separate(self, descriptor: int, digest: str) -> bool:
        if not self.refused:
            self.refused.append(digest)
            raise MemoryError
        return super().separate(descriptor, digest)


def test_a_file_that_cannot_be_parted_from_the_store_costs_the_others_of_its_group_nothing(
    watched: WatchedInbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Writers come to both files while they are booked: each is let in with the store's file apart."""
    contents = [another(number) for number in range(2)]
    paths = [watched.drop(f"{number}.dcm", content) for number, content in enumerate(contents)]
    kept = [stored(watched, sums_of(content)[0]) for content in contents]
    links, held = LinksOutOfMemory(watched.desk.store.folder, OBJECTS), list[HeldFile]()
    for path, content in zip(paths, contents, strict=True):
        held.append(HeldFile(SourceFile.opened(str(path)), sums_of(content)[0], links))
        assert held[-1].source.hold()
        assert links.take(held[-1].source.descriptor, held[-1].digest) is not None
    assert all(map(Path.samefile, paths, kept))
    writers = [threading.Thread(target=path.write_bytes, args=(LATER,)) for path in paths]
    try:
        with watching_writers(held):
            for writer in writers:
                writer.start()
            wait_until(lambda: not any(map(Path.samefile, paths, kept)), 30)
    finally:
        for each in held:
            each.abandon()
    for writer in writers:
        writer.join(60)
    assert [path.read_bytes() for path in kept] == contents
    assert [path.read_bytes() for path in paths] == [LATER] * 2
    (told,) = [record for record in caplog.records if record.getMessage() == "file_not_parted"]
    assert "MemoryError" in told.__dict__["kind"]


def test_a_file_that_was_changed_before_it_is_booked_is_not_booked_as_it_was_read(
    watched: WatchedInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a stall that outlasts the time for which the system lets a writer wait."""
    path = watched.drop("a.dcm")

    def overwrite(done: Step) -> None:
        if done is Step.STORED:
            path.write_bytes(LATER)

    with monkeypatch.context() as patch:
        patch.setattr("worker.intake.source_file.take_lease", lambda _: True)
        assert settle(watched, overwrite) == {"waiting": 1}
    assert path.read_bytes() == LATER
    assert settle(watched) == {"accepted": 1}
    assert (stored(watched, sums_of(LATER)[0]).read_bytes(), watched.left()) == (LATER, [])


@pytest.mark.parametrize("knows_second_names", [True, False])
def test_a_copied_file_is_put_back_for_a_writer_that_came_before_its_name_was_gone(
    watched: WatchedInbox, monkeypatch: pytest.MonkeyPatch, knows_second_names: bool
) -> None:
    watched.start(store_link=StoreLink.OFF)
    path = watched.drop("a.dcm")

    def overwrite() -> None:
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(LATER)

    writer = threading.Thread(target=overwrite)

    def begin(step: Step) -> None:
        if step is Step.MARKED and writer.ident is None:
            writer.start()
            wait_until(lambda: is_being_broken(path), 60)

    if not knows_second_names:
        monkeypatch.setattr("worker.intake.held_file.add_name", refuse)
    settle(watched, begin)
    writer.join(60)
    (left,) = watched.inbox.iterdir()
    assert (left.read_bytes(), left == path, stored(watched).read_bytes()) == (LATER, knows_second_names, CHEST)
    assert settle(watched) == {"accepted": 2}
    assert list(watched.inbox.iterdir()) == []


def test_a_file_that_is_put_back_takes_the_place_of_no_other(watched: WatchedInbox) -> None:
    path = watched.drop("a.dcm")
    writer = threading.Thread(target=lambda: path.open("ab").close())

    def begin(step: Step) -> None:
        if step is Step.MARKED:
            writer.start()
            wait_until(lambda: is_being_broken(path), 60)
        elif step is Step.REMOVED and not path.exists():
            path.write_bytes(LATER)

    settle(watched, begin)
    writer.join(60)
    assert path.read_bytes() == LATER
    (other,) = set(watched.left()) - {"a.dcm"}
    assert (watched.inbox / other).read_bytes() == CHEST


def test_a_file_that_cannot_be_put_back_is_told_and_its_writer_does_not_reach_the_store(
    watched: WatchedInbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = watched.drop("a.dcm")

    def overwrite() -> None:
        with path.open("r+b") as file:
            file.write(LATER)

    writer = threading.Thread(target=overwrite)

    def begin(step: Step) -> None:
        if step is Step.MARKED:
            writer.start()
            wait_until(lambda: is_being_broken(path), 60)
            monkeypatch.setattr("worker.intake.held_file.add_name", refuse)

    assert settle(watched, begin) == {"accepted": 1}
    writer.join(60)
    assert stored(watched).read_bytes() == CHEST
    assert "file_not_put_back" in caplog.messages


def test_a_file_that_is_open_for_writing_is_copied_and_stays(watched: WatchedInbox) -> None:
    path = watched.drop("a.dcm")
    watched.scan()
    with path.open("ab") as writer:
        watched.watcher._has_writer = lambda *_: False  # type: ignore[method-assign]  # it came after that was asked
        watched.scan(10)
        assert stored(watched).stat().st_ino != path.stat().st_ino
        writer.write(b"more")
        writer.flush()
        assert (stored(watched).read_bytes(), path.read_bytes()) == (CHEST, CHEST + b"more")


def owned_by_another(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(path, 12345, -1)


def with_another_name(path: Path) -> None:
    (path.parent.parent / "another").hardlink_to(path)


def a_link_to_a_file(path: Path) -> None:
    path.symlink_to(path.rename(path.parent.parent / "elsewhere"))


@pytest.mark.parametrize("make", [owned_by_another, with_another_name, a_link_to_a_file])
def test_what_is_not_ours_alone_is_copied(watched: WatchedInbox, make: Callable[[Path], None]) -> None:
    path = watched.drop("a.dcm")
    make(path)
    inode = path.stat().st_ino
    assert settle(watched) == {"accepted": 1}
    assert (stored(watched).stat().st_ino == inode, watched.left()) == (False, [])
    assert (stored(watched).read_bytes(), stored(watched).stat().st_nlink) == (CHEST, 1)


def test_a_path_that_cannot_be_asked_any_more_is_unreadable(watched: WatchedInbox) -> None:
    path = watched.drop("folder/a.dcm")
    source = SourceFile.opened(str(path))
    path.parent.rename(watched.inbox / "another folder")
    path.parent.write_text("a file in place of the folder", encoding="ascii")
    with pytest.raises(Unreadable):
        source.hold()
    source.close()


def test_nothing_is_linked_when_that_is_off(watched: WatchedInbox) -> None:
    watched.start(store_link=StoreLink.OFF)
    inode = watched.drop("a.dcm").stat().st_ino
    assert settle(watched) == {"accepted": 1}
    assert (stored(watched).stat().st_ino == inode, watched.left()) == (False, [])
    assert "SCREENING_STORE_LINK=off" in how_taken_in(watched.inbox, watched.desk.settings)


def test_an_inbox_that_is_mounted_by_itself_is_copied_and_said_so(watched: WatchedInbox, tmp_path: Path) -> None:
    """As below the `ReadWritePaths=` of a systemd unit: the disk is the same, and a link is refused all the same."""
    other = tmp_path / "other"
    other.mkdir()
    settings = attrs.evolve(watched.desk.settings, store=str(watched.desk.store.folder))
    assert "are linked into the store" in how_taken_in(watched.inbox, settings)
    if subprocess.run(["mount", "--bind", str(other), str(watched.inbox)], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        inode = watched.drop("a.dcm").stat().st_ino
        assert settle(watched) == {"accepted": 1}
        assert (stored(watched).stat().st_ino == inode, watched.left()) == (False, [])
        assert "another mount" in how_taken_in(watched.inbox, settings)
        assert list(watched.inbox.iterdir()) == []
    finally:
        subprocess.run(["umount", str(watched.inbox)], check=True)


def test_what_the_store_has_under_a_second_name_is_not_relied_on(watched: WatchedInbox) -> None:
    """As after a kill: the stored file still lies in the inbox too, where it may be written to."""
    path = watched.drop("a.dcm")
    settle(watched)
    path.hardlink_to(stored(watched))
    first = path.stat().st_ino
    watched.drop("b.dcm")
    path.rename(watched.inbox / ".kept")
    settle(watched)
    assert (stored(watched).stat().st_ino == first, stored(watched).stat().st_nlink) == (False, 1)
    (watched.inbox / ".kept").write_bytes(b"overwritten")
    assert stored(watched).read_bytes() == CHEST


@pytest.mark.parametrize("damage", [CHEST[:-1] + b"\x07", b""])
def test_damaged_bytes_in_the_store_are_replaced_by_the_file(watched: WatchedInbox, damage: bytes) -> None:
    stored(watched).parent.mkdir(parents=True)
    stored(watched).write_bytes(damage)
    inode = watched.drop("a.dcm").stat().st_ino
    settle(watched)
    assert (stored(watched).read_bytes(), stored(watched).stat().st_ino) == (CHEST, inode)


@pytest.mark.parametrize("step", [Step.STORED, Step.BOOKED, Step.MARKED])
def test_pruning_spares_a_file_with_an_old_date_that_is_being_taken_in(watched: WatchedInbox, step: Step) -> None:
    path = watched.drop("a.dcm")
    os.utime(path, (10**9, 10**9))
    desk, yesterday = watched.desk, time.time() - 86_400

    def prune(done: Step) -> None:
        if done is step:
            (each,) = [one for one in desk.store.files(OBJECTS) if one.digest == DIGEST]
            assert not desk.store.remove(each, yesterday)

    assert settle(watched, prune) == {"accepted": 1}
    assert stored(watched).read_bytes() == CHEST
    assert stored(watched).stat().st_mtime > yesterday


class Unbookable(Intake):
    """Its database is lost when a file is to be booked."""

    def book(self, read: ReadFile, now: datetime) -> Registration:  # noqa: ARG002
        raise DatabaseUnavailable("lost")


def test_a_file_that_cannot_be_booked_stays_as_it_was_and_the_store_has_its_own(watched: WatchedInbox) -> None:
    path = watched.drop("a.dcm")
    os.utime(path, (10**9, 10**9))
    before = path.stat()
    desk, able = watched.desk, watched.watcher.intake
    watched.watcher.intake = Unbookable(desk.settings, desk.database, desk.store)
    watched.scan()
    with pytest.raises(DatabaseUnavailable):
        watched.scan(10)
    after = path.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (before.st_mode, before.st_mtime_ns, 1)
    assert (path.read_bytes(), stored(watched).stat().st_nlink) == (CHEST, 1)
    watched.watcher.intake = able
    assert watched.scan() == {"accepted": 1}
    assert (stored(watched).read_bytes(), watched.left()) == (CHEST, [])


def test_a_large_file_is_taken_in_without_memory_for_it(watched: WatchedInbox) -> None:
    pixels = np.maximum(picture(rows=3000, columns=2000), 1)
    watched.drop("small.dcm", another(1))
    settle(watched)
    watched.drop("large.dcm", dicom_file(pixels, bits=12))
    with traced() as peak:
        assert settle(watched) == {"accepted": 2}
    assert peak[0] < 3 * 2**20, f"{peak[0]:,} bytes for a file of 12,000,000"


@contextmanager
def traced() -> Iterator[list[int]]:
    """The most memory that Python held within the block."""
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def test_a_lease_is_refused_while_somebody_writes(watched: WatchedInbox) -> None:
    path = watched.drop("a.dcm")
    with path.open("rb") as file, path.open("ab"):
        assert not take_lease(file.fileno())
    with path.open("rb") as file:
        assert take_lease(file.fileno())
