"""An inbox, a folder in it, or a store whose share is gone: its empty mount point is no ordinary folder."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs
import pytest

from tests.ledger import Ledger
from tests.watched_inbox import WatchedInbox, another
from worker.errors import StorageUnavailable
from worker.monitoring.health import check
from worker.settings import Settings
from worker.store import OBJECTS, open_store
from worker.store.folder import FolderStore
from worker.store.mounted_folders import MEMORY_FILE, MountedFolders


def remember(desk: Ledger, *folders: Path) -> None:
    """Make these, which are ordinary folders, the mounts that were seen before."""
    desk.settings.home.mkdir(exist_ok=True)
    (desk.settings.home / MEMORY_FILE).write_text(json.dumps([str(folder) for folder in folders]))


@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_waits_in_an_inbox_whose_share_is_gone_has_not_vanished(watched: WatchedInbox) -> None:
    dropped = watched.drop("a.dcm", another(1))
    assert watched.scan() == {"waiting": 1}
    dropped.rename(watched.inbox.parent / "a.dcm")  # with its share
    remember(watched.desk, watched.inbox)
    watched.start()
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match=r"share is not mounted: mount it again; .* mounted_folders.json"):
            watched.scan(60)
    (watched.inbox.parent / "a.dcm").rename(dropped)
    remember(watched.desk)
    watched.start()
    assert watched.scan() == {"waiting": 1}
    assert watched.scan(60) == {"accepted": 1}


@pytest.mark.parametrize("kind", ["sqlite"])
def test_other_folders_are_taken_in_while_the_share_of_one_is_gone(watched: WatchedInbox) -> None:
    waiting = watched.drop("share/a.dcm", another(1))
    watched.scan()
    waiting.unlink()
    watched.drop("b.dcm", another(2))
    remember(watched.desk, watched.inbox / "share")
    watched.start()
    watched.scan(60)
    assert watched.scan(60) == {"waiting": 1, "accepted": 1}


def test_a_mount_is_known_to_later_processes(tmp_path: Path) -> None:
    inbox, other = str(tmp_path / "inbox"), str(tmp_path / "n\u00f6t \udcff\n mounted")
    seen = MountedFolders(tmp_path)
    seen.prove(inbox, 1, 1)
    seen.prove(inbox, 2, 1)
    seen.prove(other, 3, 1)
    for later in (seen, MountedFolders(tmp_path)):
        for folder in (inbox, other):
            with pytest.raises(OSError, match="not mounted"):
                later.prove(folder, 1, 1)
        later.prove(inbox, 4, 1)
        later.prove(str(tmp_path / "ordinary"), 1, 1)
    MountedFolders().prove(inbox, 1, 1)
    assert [path.name for path in tmp_path.iterdir()] == [MEMORY_FILE]


def test_nothing_is_written_below_the_mount_point_of_a_store_whose_share_is_gone(tmp_path: Path) -> None:
    point, home, file = tmp_path / "point", tmp_path / "home", tmp_path / "file"
    for folder in (point, home):
        folder.mkdir()
    file.write_bytes(b"x")
    (home / MEMORY_FILE).write_text(json.dumps([str(point)]))
    (tmp_path / "link").symlink_to(point)
    for folder in (point, point / "deep" / "store", tmp_path / "link" / "store"):
        store = FolderStore(folder, MountedFolders(home))
        writes: list[Callable[[], object]] = [
            partial(store.put, OBJECTS, b"x"), partial(store.adopt, OBJECTS, file, "0" * 64),
            partial(store.draft, OBJECTS), partial(store.keep_once, "key", b"x"), store.prove_writable, store.free_mib,
        ]  # fmt: skip
        for write in writes:
            with pytest.raises(StorageUnavailable, match="its share is not mounted"):
                write()
    assert [*point.iterdir()] == []
    assert file.exists()


def test_only_a_store_apart_from_the_state_folder_is_looked_after(tmp_path: Path) -> None:
    apart = open_store(Settings(home=tmp_path / "home", store=str(tmp_path / "store")))
    inside = open_store(Settings(home=tmp_path / "home"))
    assert isinstance(apart, FolderStore)
    assert isinstance(inside, FolderStore)
    assert apart.mounted is not None
    assert inside.mounted is None
    assert apart.get(OBJECTS, apart.put(OBJECTS, b"x")) == b"x"


@pytest.mark.parametrize("held", ["", "{", "7", '{"a": 1}', "[1, null]", "\u00e4"])
def test_a_broken_memory_is_none(tmp_path: Path, held: str) -> None:
    (tmp_path / MEMORY_FILE).write_text(held, encoding="utf-8")
    MountedFolders(tmp_path).prove(str(tmp_path), 1, 1)
    assert MountedFolders(tmp_path).gone() == []


@pytest.mark.parametrize("kind", ["sqlite"])
def test_the_checkup_names_a_share_that_is_gone(desk: Ledger, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    remember(desk, inbox, tmp_path / "deleted")
    settings = attrs.evolve(desk.settings, database=desk.database.url)
    found = [finding for finding in check(settings) if finding.what == "mount"]
    assert [(finding.is_well, str(inbox) in finding.message) for finding in found] == [(False, True)]
