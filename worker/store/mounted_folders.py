"""Which folders were mounts. Of a share that is gone an empty folder is left, its mount point; or nothing, where what
mounts it removes that too. Neither must pass for an inbox or a folder without files, or for a store. Kept in the state
folder, so that it is known after a start of the machine too.
"""

import errno
import json
import os
import secrets
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

#: The name of the file in the state folder: a list of paths.
MEMORY_FILE = "mounted_folders.json"

#: The fault and its remedy.
NOT_MOUNTED = (
    "its share is not mounted: mount it again; if it is an ordinary folder from now on, or gone for good, remove it"
    f" from {MEMORY_FILE} in the state folder and start the program again"
)


class MountedFolders:
    """The folders that were seen as mounts, by path. Without a state folder they are known to this process alone."""

    def __init__(self, home: Path | None = None) -> None:
        self._file = None if home is None else home / MEMORY_FILE
        self._paths = set(self._read())

    def prove(self, folder: str, device_above: int) -> os.stat_result:
        """The status of a folder. Raises OSError when it was a mount, and lies on the device of the folder above now or
        is gone."""
        try:
            status = _status(folder)
        except FileNotFoundError as error:
            if folder in self._paths:
                raise not_mounted(folder) from error
            raise
        if status.st_dev != device_above:
            self._remember(folder)
        elif folder in self._paths:
            raise not_mounted(folder)
        return status

    def prove_path(self, folder: Path) -> os.stat_result:
        """`prove` for a folder and all above it, from the root on; of a link, for its target.

        Raises FileNotFoundError when it is not there, and neither it nor one above it was a mount that is gone.
        """
        there = Path(os.path.realpath(folder))
        status, chain = _status("/"), [str(here) for here in (*reversed(there.parents), there)[1:]]
        for depth, here in enumerate(chain):
            try:
                status = self.prove(here, status.st_dev)
            except FileNotFoundError as error:
                below = next((path for path in chain[depth:] if path in self._paths), None)
                if below is not None:
                    raise not_mounted(below) from error
                raise
        return status

    def among(self, folders: Set[str]) -> Set[str]:
        """Those of the folders that were seen as mounts."""
        return self._paths & folders

    def absent(self, below: str = os.sep) -> list[str]:
        """The folders below this path, which ends in a slash, that were mounts and are not there any more."""
        return sorted(path for path in self._paths if path.startswith(below) and _is_absent(path))

    def gone(self) -> list[str]:
        """The folders that are there, and no mounts any more."""
        found = []
        for folder in sorted(self._paths):
            with suppress(OSError):
                if _status(folder).st_dev == _status(f"{folder}/..").st_dev:
                    found.append(folder)
        return found

    def _remember(self, folder: str) -> None:
        if folder in self._paths:
            return
        self._paths.add(folder)
        if self._file is None:
            return
        draft = self._file.with_name(f".{MEMORY_FILE}.{secrets.token_hex(4)}")
        with suppress(OSError):  # a full disk: this process knows it all the same
            draft.write_text(json.dumps(sorted({*self._read(), folder}), indent=1), encoding="ascii")
            os.replace(draft, self._file)  # noqa: PTH105
        with suppress(OSError):
            draft.unlink(missing_ok=True)

    def _read(self) -> list[str]:
        """What the file holds; nothing where it is absent or broken."""
        with suppress(OSError, ValueError):
            paths = json.loads(self._file.read_text(encoding="ascii")) if self._file is not None else []
            return [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []
        return []


def not_mounted(folder: str) -> OSError:
    """The error of a folder whose share is gone."""
    return OSError(errno.ENOTCONN, NOT_MOUNTED, folder)


def _is_absent(path: str) -> bool:
    """Whether nothing is there. A share that does not answer, or may not be entered, is not absent."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _status(folder: str) -> os.stat_result:
    """Looked up by way of the folder, so that the kernel mounts what it mounts on demand: stat(2) of the name alone
    leaves it unmounted, with the device of the folder above."""
    return os.stat(f"{folder}/.")  # noqa: PTH116
