"""Which folders were mounts: of a share that is gone an empty folder is left, its mount point, which must not pass for
an inbox without files, or for a store. Kept in the state folder, so that it is known after a start of the machine too.
"""

import errno
import json
import os
import secrets
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

#: The name of the file in the state folder: a list of paths.
MEMORY_FILE = "mounted_folders.json"

#: The fault and its remedy.
NOT_MOUNTED = (
    "its share is not mounted: mount it again; if it is an ordinary folder from now on, remove it from"
    f" {MEMORY_FILE} in the state folder and start the program again"
)


class MountedFolders:
    """The folders that were seen as mounts, by path. Without a state folder they are known to this process alone."""

    def __init__(self, home: Path | None = None) -> None:
        self._file = None if home is None else home / MEMORY_FILE
        self._paths = set(self._read())

    def prove(self, folder: str, device: int, device_above: int) -> None:
        """Raise OSError when a folder was a mount and lies on the device of the folder above it now."""
        if device != device_above:
            self._remember(folder)
        elif folder in self._paths:
            raise OSError(errno.ENOTCONN, NOT_MOUNTED, folder)

    def prove_path(self, folder: Path) -> None:
        """Raise OSError when a folder, or one above it, was a mount and is none now; it need not be there itself."""
        there = folder.resolve()
        for here, above in pairwise((there, *there.parents)):
            with suppress(FileNotFoundError):
                self.prove(str(here), here.stat().st_dev, above.stat().st_dev)

    def gone(self) -> list[str]:
        """The folders that are there, and no mounts any more."""
        found = []
        for folder in sorted(self._paths):
            with suppress(OSError):
                if Path(folder).stat().st_dev == Path(folder, "..").stat().st_dev:
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
