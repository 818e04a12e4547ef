"""The state folder, which only its owner may read. Imports little, because it is loaded before the queue worker."""

import hashlib
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

from worker.errors import NoHome
from worker.settings import Settings

#: A file of random digits, written when the folder is made.
NAME_FILE = "installation"


def make_home(settings: Settings) -> None:
    """Make the state folder; raises NoHome when it cannot be made or written."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (settings.home / "lock").touch(mode=0o600)
        _write_once(settings.home / NAME_FILE, secrets.token_hex(16))
    except OSError as error:
        raise NoHome(
            f"the state folder cannot be written ({error.strerror}): set SCREENING_HOME to a folder you may write to"
        ).about(str(settings.home)) from error


def owner_of_claims(settings: Settings) -> str:
    """Sixteen digits for this state folder on this machine. A copy of the folder, there or elsewhere, has others."""
    named = [socket.gethostname()]
    with suppress(OSError):  # a queue worker may have no state folder
        path = settings.home / NAME_FILE
        named += [path.read_text(encoding="ascii"), str(path.stat().st_ino)]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()[:16]


def _write_once(path: Path, content: str) -> None:
    """Write a new file, complete from its first moment on; one that exists stays as it is."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    draft.write_text(content, encoding="ascii")
    try:
        os.link(draft, path)
    except FileExistsError:
        return  # another process was faster
    finally:
        draft.unlink()
