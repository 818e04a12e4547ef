"""A file in the store is complete or absent, and other users cannot read it."""

import hashlib
import os
import subprocess
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.ledger import without_privileges
from worker.errors import Interrupted, Rejected, StorageUnavailable, StoredFileLost
from worker.settings import Settings
from worker.store import OBJECTS, OVERLAYS, crc_of
from worker.store.capacity import Capacity
from worker.store.draft import Draft
from worker.store.folder import FolderStore

CONTENT = b"a radiograph" * 1000


@pytest.fixture
def keep(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "deep" / "store")


def test_content_comes_back_by_its_digest(keep: FolderStore) -> None:
    digest = keep.put(OBJECTS, CONTENT)
    assert digest == hashlib.sha256(CONTENT).hexdigest()
    assert keep.get(OBJECTS, digest) == keep.get(OBJECTS, digest, crc_of(CONTENT)) == CONTENT
    assert keep.has(OBJECTS, digest)
    assert not keep.has(OVERLAYS, digest)
    assert keep.put(OBJECTS, CONTENT) == digest
    assert keep.path(OVERLAYS, keep.put(OVERLAYS, b"png")).suffix == ".png"


def test_a_file_of_ours_is_taken_over_and_heals_what_is_damaged(keep: FolderStore, tmp_path: Path) -> None:
    def spooled() -> Path:
        file = tmp_path / "spooled"
        file.write_bytes(CONTENT)
        return file

    digest = hashlib.sha256(CONTENT).hexdigest()
    assert not keep.adopt(OBJECTS, spooled(), digest).is_proved
    assert keep.get(OBJECTS, digest) == CONTENT
    assert keep.adopt(OBJECTS, spooled(), digest).is_proved  # it was there, byte for byte
    keep.path(OBJECTS, digest).write_bytes(CONTENT[:-1] + b"x")
    assert not keep.adopt(OBJECTS, spooled(), digest).is_proved
    assert keep.get(OBJECTS, digest) == CONTENT
    assert not (tmp_path / "spooled").exists()


def test_files_and_folders_are_for_our_eyes_only(keep: FolderStore) -> None:
    keep.put(OBJECTS, CONTENT)
    for path in [keep.folder, *keep.folder.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_writers_of_the_same_content_do_not_disturb_each_other(keep: FolderStore) -> None:
    digests: list[str] = []
    threads = [threading.Thread(target=lambda: digests.append(keep.put(OBJECTS, CONTENT))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 8
    assert [p.name for p in keep.folder.rglob("*") if p.is_file()] == [digests[0]], "no draft is left"


@pytest.mark.parametrize("damage", [b"", b"a radiograph", b"A" * len(CONTENT)])
def test_damage_is_found(keep: FolderStore, damage: bytes) -> None:
    digest = keep.put(OBJECTS, CONTENT)
    keep.path(OBJECTS, digest).write_bytes(damage)
    for crc in (None, crc_of(CONTENT)):
        with pytest.raises(StoredFileLost, match="damaged"):
            keep.get(OBJECTS, digest, crc)


def test_a_file_cut_short_is_mended_when_it_comes_again(keep: FolderStore) -> None:
    digest = keep.put(OBJECTS, CONTENT)
    keep.path(OBJECTS, digest).write_bytes(CONTENT[:100])
    keep.put(OBJECTS, CONTENT)
    assert keep.get(OBJECTS, digest) == CONTENT


def test_a_lost_file_is_no_outage_and_a_lost_store_is(keep: FolderStore) -> None:
    digest = keep.put(OBJECTS, CONTENT)
    keep.path(OBJECTS, digest).unlink()
    with pytest.raises(StoredFileLost, match="worker requeue") as lost:
        keep.get(OBJECTS, digest)
    assert isinstance(lost.value, Rejected), "its study says so; nobody waits for it"
    keep.folder.rename(keep.folder.with_name("unmounted"))
    with pytest.raises(StorageUnavailable) as away:
        keep.get(OBJECTS, digest)
    assert isinstance(away.value, Interrupted)


def test_a_full_disk_says_so_and_leaves_no_half_file(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        keep = FolderStore(disk)
        small = keep.put(OBJECTS, b"small")
        with pytest.raises(StorageUnavailable, match="No space left"):
            keep.put(OBJECTS, b"x" * 100_000)
        with pytest.raises(StorageUnavailable, match="No space left"):
            keep.prove_writable()
        assert [p.name for p in disk.rglob("*") if p.is_file()] == [small]
        assert keep.get(OBJECTS, small) == b"small"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_store_without_permission_is_an_outage() -> None:
    closed = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others anyway
    closed.chmod(0o700 if os.geteuid() == 0 else 0)
    keep = FolderStore(closed / "store")
    with without_privileges():
        for work in (lambda: keep.put(OBJECTS, CONTENT), keep.free_mib, lambda: keep.get(OBJECTS, "0" * 64)):
            with pytest.raises(StorageUnavailable, match="Permission denied"):
                work()


def test_free_space_is_that_of_the_stores_disk(keep: FolderStore) -> None:
    assert 0 < keep.free_mib() < 2**40
    assert keep.folder.is_dir()


class AlmostFull(FolderStore):
    """A store with a little less than 512 MiB of free space."""

    def free_mib(self) -> float:
        return 511.7


def test_space_below_the_limit_is_not_rounded_up_to_it(tmp_path: Path) -> None:
    settings, almost_full = Settings(home=tmp_path, min_free_mib=512), AlmostFull(tmp_path / "store")
    with pytest.raises(StorageUnavailable, match=r"only 511 MiB free, below SCREENING_MIN_FREE_MIB \(512\)"):
        Capacity().require(settings, almost_full, datetime.now(UTC))


def test_a_store_proves_again_and_again_that_it_can_be_written(keep: FolderStore) -> None:
    keep.prove_writable()
    keep.prove_writable()
    assert [p for p in keep.folder.rglob("*") if p.is_file()] == []
    (keep.folder / OBJECTS).rename(keep.folder / "away")
    (keep.folder / OBJECTS).write_text("a file where a folder should be")
    with pytest.raises(StorageUnavailable, match="cannot write"):
        keep.prove_writable()


def test_what_comes_again_leaves_no_draft(keep: FolderStore) -> None:
    for _ in range(2):
        draft = Draft(keep.draft(OBJECTS))
        for piece in (CONTENT[:10], b"", CONTENT[10:]):
            draft.write(piece)
        draft.close()
        kept = keep.adopt(OBJECTS, draft.path, draft.sums.digest)
        draft.discard()
    assert kept.is_proved
    assert [path.read_bytes() for path in keep.folder.rglob("*") if path.is_file()] == [CONTENT]
