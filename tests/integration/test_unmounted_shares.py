"""An inbox, a folder in it, or a store whose share is gone: its empty mount point is no ordinary folder."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import attrs
import pytest

from tests.ledger import Ledger
from tests.watched_inbox import WatchedInbox, another
from worker.errors import StorageUnavailable, StoredFileLost
from worker.intake.folder_scan import Inbox, Listing
from worker.intake.link_probe import how_taken_in
from worker.monitoring.health import check
from worker.monitoring.reconciliation import reconcile
from worker.settings import Settings
from worker.store import OBJECTS, open_store
from worker.store.folder import FolderStore
from worker.store.mounted_folders import MEMORY_FILE, MountedFolders


def remember(desk: Ledger, *folders: Path) -> None:
    """Make these, which are ordinary folders, the mounts that were seen before."""
    desk.settings.home.mkdir(exist_ok=True)
    (desk.settings.home / MEMORY_FILE).write_text(json.dumps([str(folder) for folder in folders]))


def test_a_share_that_cannot_be_looked_up_is_not_gone(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    kept, gone = str(tmp_path / "loop" / "share"), str(tmp_path / "gone")
    (tmp_path / MEMORY_FILE).write_text(json.dumps([kept, gone]))
    assert MountedFolders(tmp_path).absent() == [gone]


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
@pytest.mark.parametrize("above", ["share/deep", "link"])
def test_what_waits_below_a_share_that_is_gone_has_not_vanished(desk: Ledger, tmp_path: Path, above: str) -> None:
    """The mount point has a folder of the inbox's name: it may have been made while the share was away once."""
    (tmp_path / "share" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "share" / "deep")
    watched = WatchedInbox(desk, tmp_path / above / "inbox")
    dropped = watched.drop("a.dcm", another(1))
    assert watched.scan() == {"waiting": 1}
    dropped.rename(tmp_path / "a.dcm")
    remember(desk, tmp_path / "share")
    watched.start()
    for work in (partial(watched.scan, 60), watched.watcher.inbox.prove_listed):
        with pytest.raises(StorageUnavailable, match="share is not mounted"):
            work()
    assert reconcile(desk.database, desk.store).files == {"waiting": 1}


@pytest.mark.parametrize("kind", ["sqlite"])
def test_a_link_to_the_inbox_may_lead_elsewhere_later(desk: Ledger, tmp_path: Path) -> None:
    """An ordinary folder is none whose share is gone, by whatever name it is reached."""
    for name in ("share", "local"):
        (tmp_path / name / "sub").mkdir(parents=True)
    remember(desk, tmp_path / "share")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "local")
    WatchedInbox(desk, link).scan()
    link.unlink()
    link.symlink_to(tmp_path / "share")
    with pytest.raises(StorageUnavailable, match="share is not mounted"):
        WatchedInbox(desk, link).scan()
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(StorageUnavailable, match="Too many levels of symbolic links"):
        Inbox(link).scan()


@pytest.mark.parametrize("name", ["", "sub"])
def test_what_a_share_took_along_while_it_was_listed_is_not_gone(tmp_path: Path, name: str) -> None:
    """The inbox, or a folder in it, is a mount when it is listed, and none at the end."""
    share, is_away = tmp_path / "inbox" / name, False
    share.mkdir(parents=True)

    def go_away(folder: str) -> bool:
        if is_away and folder == str(share):
            inbox.mounted.prove(folder, -1)  # it was a mount until now
            (share / "a.dcm").unlink()
        return True

    inbox = Inbox(tmp_path / "inbox", is_ours=go_away)
    (share / "a.dcm").write_bytes(b"")
    assert len(inbox.scan().paths) == 1
    is_away = True
    with pytest.raises(StorageUnavailable, match="share is not mounted"):
        inbox.scan()


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("name", ["a.dcm", "share/a.dcm"])
def test_a_file_whose_share_goes_before_it_is_read_has_not_vanished(watched: WatchedInbox, name: str) -> None:
    dropped = watched.drop(name, another(1))
    watched.scan()
    scan = watched.watcher.inbox.scan

    def scan_and_go() -> Listing:
        listing = scan()
        watched.watcher.inbox.mounted.prove(str(dropped.parent), -1)
        dropped.unlink()
        return listing

    watched.watcher.inbox.scan = scan_and_go  # type: ignore[method-assign]
    with pytest.raises(StorageUnavailable, match="share is not mounted"):
        watched.scan(60)
    assert reconcile(watched.desk.database, watched.desk.store).files == {"waiting": 1}


#: Run in a mount namespace of its own, so that nothing stays mounted, however it ends. The kernel mounts `tracing`
#: of debugfs when something below it is looked up, and a status of its name alone is no such look.
ON_DEMAND = """
import subprocess, sys
from pathlib import Path
from worker.store.mounted_folders import MountedFolders

home = Path(sys.argv[1])
disk, point = home / "disk", home / "disk" / "tracing"
disk.mkdir()
if subprocess.run(["mount", "-t", "debugfs", "none", str(disk)]).returncode:
    sys.exit(77)
seen, above = MountedFolders(home), disk.stat().st_dev
if not (point / "events").is_dir() or not point.is_mount():
    sys.exit(77)
for _ in range(2):
    subprocess.run(["umount", str(point)], check=True)  # as after some minutes without use
    assert seen.gone() == []
    subprocess.run(["umount", str(point)])
    device = seen.prove(str(point), above).st_dev
    assert device != above
    seen.prove(str(point / "events"), device)
assert [*seen.among({str(point), str(point / "events")})] == [str(point)]
"""


@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, ("unshare", "mount", "umount"))), reason="needs util-linux")
def test_a_share_that_is_mounted_on_demand_is_no_share_that_is_gone(tmp_path: Path) -> None:
    alone = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("a mount namespace needs root")
    done = subprocess.run([*alone, sys.executable, "-c", ON_DEMAND, str(tmp_path)], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this kernel mounts nothing on demand here")
    assert done.returncode == 0, done.stderr


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


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("name", ["share", "deep/share"])
def test_what_waits_below_a_mount_point_that_is_removed_with_its_share_has_not_vanished(
    watched: WatchedInbox, name: str
) -> None:
    """As programs that mount a disk when it is plugged in do."""
    kept = watched.inbox.parent / "kept"
    watched.drop(f"{name}/a.dcm", another(1))
    watched.scan()
    remember(watched.desk, watched.inbox / name, watched.inbox / "deleted long ago")
    (watched.inbox / name).rename(kept)
    for _ in range(2):
        watched.start()
        assert watched.scan(700) == {"waiting": 1}
    found = [
        finding.message
        for finding in check(attrs.evolve(watched.desk.settings, database=watched.desk.database.url))
        if finding.what == "mount"
    ]
    assert [words.partition(": ")[0] for words in found] == [str(watched.inbox / name)]
    kept.rename(watched.inbox / name)
    remember(watched.desk)
    watched.start()
    watched.scan()
    assert watched.scan(60) == {"accepted": 1}


@pytest.mark.parametrize("kind", ["sqlite"])
def test_an_inbox_whose_mount_point_is_removed_with_its_share_cannot_be_listed(desk: Ledger, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    watched = WatchedInbox(desk, tmp_path / "disk" / "inbox")
    watched.drop("a.dcm", another(1))
    watched.scan()
    remember(desk, tmp_path / "disk")
    (tmp_path / "disk").rename(tmp_path / "kept")
    with pytest.raises(StorageUnavailable, match="its share is not mounted"):
        Inbox(watched.inbox, home=desk.settings.home).scan()
    watched.watcher.inbox.mounted = MountedFolders(desk.settings.home)
    with pytest.raises(StorageUnavailable, match="its share is not mounted"):
        watched.watcher.inbox.prove_gone(str(watched.inbox / "a.dcm"))


def test_a_mount_is_known_to_later_processes(tmp_path: Path) -> None:
    inbox, other, ordinary = (tmp_path / name for name in ("inbox", "n\u00f6t \udcff\n mounted", "ordinary"))
    for folder in (inbox, other, ordinary):
        folder.mkdir()
    here, elsewhere = tmp_path.stat().st_dev, -1
    seen = MountedFolders(tmp_path)
    seen.prove(str(inbox), here)
    seen.prove(str(inbox), elsewhere)
    seen.prove(str(other), elsewhere)
    for later in (seen, MountedFolders(tmp_path)):
        for folder in (inbox, other):
            with pytest.raises(OSError, match="not mounted"):
                later.prove(str(folder), here)
        later.prove(str(inbox), elsewhere)
        later.prove(str(ordinary), here)
    MountedFolders().prove(str(inbox), here)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [MEMORY_FILE]


def test_nothing_is_written_below_the_mount_point_of_a_store_whose_share_is_gone(tmp_path: Path) -> None:
    point, home, file = tmp_path / "point", tmp_path / "home", tmp_path / "file"
    for folder in (point, home):
        folder.mkdir()
    file.write_bytes(b"x")
    (home / MEMORY_FILE).write_text(json.dumps([str(point)]))
    (tmp_path / "link").symlink_to(point)
    places = (point, point / "deep" / "store", tmp_path / "link" / "store")
    for is_removed, folder in product((False, True), places):
        if is_removed and point.exists():
            point.rmdir()
        store = FolderStore(folder, MountedFolders(home))
        writes: list[Callable[[], object]] = [
            partial(store.put, OBJECTS, b"x"), partial(store.adopt, OBJECTS, file, "0" * 64),
            partial(store.draft, OBJECTS), partial(store.keep_once, "key", b"x"), store.prove_writable, store.free_mib,
        ]  # fmt: skip
        for write in writes:
            with pytest.raises(StorageUnavailable, match="its share is not mounted"):
                write()
        assert not point.exists() or [*point.iterdir()] == []
    assert file.exists()


def test_a_stored_file_is_not_lost_while_the_share_of_the_store_is_gone(tmp_path: Path) -> None:
    """Its mount point has a folder `objects`; the share went a moment after something was written."""
    point, home = tmp_path / "point", tmp_path / "home"
    home.mkdir()
    store = FolderStore(point, mounted := MountedFolders(home))
    digest = store.put(OBJECTS, b"x")
    store.path(OBJECTS, digest).unlink()
    with pytest.raises(StoredFileLost):
        store.get(OBJECTS, digest)
    store.put(OBJECTS, b"y")
    mounted.prove(str(point), -1)
    with pytest.raises(StorageUnavailable, match=r"cannot read from the store \(its share is not mounted"):
        store.get(OBJECTS, digest)


def test_no_file_is_linked_to_the_mount_point_of_a_store_whose_share_is_gone(tmp_path: Path) -> None:
    point, inbox, home = (tmp_path / name for name in ("point", "inbox", "home"))
    for folder in (point, inbox, home):
        folder.mkdir()
    settings = Settings(home=home, store=str(point))
    (home / MEMORY_FILE).write_text(json.dumps([str(point)]))
    assert re.search(
        r"files are copied \(the store cannot be asked \(its share is not mounted", how_taken_in(inbox, settings)
    )
    (inbox / "a").write_bytes(b"x")
    links = open_store(settings).links(OBJECTS)
    assert links is not None
    with (inbox / "a").open("rb") as file:
        assert links.take(file.fileno(), "0" * 64, lambda: None) is None
    assert [*point.iterdir()] == []


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
    MountedFolders(tmp_path).prove(str(tmp_path), tmp_path.stat().st_dev)
    assert MountedFolders(tmp_path).gone() == []


@pytest.mark.parametrize("kind", ["sqlite"])
def test_the_checkup_names_a_share_that_is_gone(desk: Ledger, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    remember(desk, inbox, tmp_path / "deleted")
    settings = attrs.evolve(desk.settings, database=desk.database.url)
    found = [finding for finding in check(settings) if finding.what == "mount"]
    assert [(finding.is_well, str(inbox) in finding.message) for finding in found] == [(False, True)]
