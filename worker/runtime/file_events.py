"""File events of the kernel (inotify) start a scan early. Without them it comes later, and misses nothing."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EMFILE, ENOSPC
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

#: What the kernel says -> the limit that is reached (inotify(7)).
LIMITS = {EMFILE: "fs.inotify.max_user_instances", ENOSPC: "fs.inotify.max_user_watches"}

#: Kinds of events after which there may be something to take.
KINDS = ("created", "closed", "moved")


@contextmanager
def woken_by_events(folder: Path) -> Iterator[threading.Event]:
    """An event that is set when the folder changes. Network shares send none, and the kernel has limits: it is logged
    once when one is reached. Then the scan interval applies."""
    wake = threading.Event()
    try:
        observer = _observe(folder, wake)
    except OSError as error:
        log.warning("file_events_unavailable", extra={"reason": fault_of(error)})
        yield wake
        return
    try:
        yield wake
    finally:
        observer.stop()
        observer.join()


def file_events_fault(folder: Path) -> str | None:
    """Why the folder sends no events, with the remedy; None when it does."""
    try:
        observer = _observe(folder, threading.Event())
    except OSError as error:
        return fault_of(error)
    observer.stop()
    observer.join()
    return None


def fault_of(error: OSError) -> str:
    """The error in words, with the setting of the kernel that helps."""
    limit = LIMITS.get(error.errno or 0)
    return f"{error.strerror}: raise {limit} (sysctl)" if limit else str(error.strerror)


def _observe(folder: Path, wake: threading.Event) -> Any:
    """A running observer of the folder and all below it; raises OSError."""
    from watchdog.events import FileSystemEvent, FileSystemEventHandler
    from watchdog.observers import Observer

    class Waker(FileSystemEventHandler):
        def on_any_event(self, event: FileSystemEvent) -> None:
            if event.event_type in KINDS:
                wake.set()

    observer = Observer()
    observer.schedule(Waker(), str(folder), recursive=True)
    observer.start()
    return observer
