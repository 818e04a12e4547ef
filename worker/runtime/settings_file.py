"""The one settings file that is in force: which it is, and what it says. Knows no setting.

The first of these: the file that `SCREENING_SETTINGS` names, `screening.toml` in the current folder, and that of the
installed service, so that a person who asks sees what the service sees.
"""

import os
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.errors import BadSetting

#: Variable that names the file; `none`: no file at all.
NAMED_BY = "SCREENING_SETTINGS"
NO_FILE = "none"

LOCAL_FILE = Path("screening.toml")

#: The table of a TOML file that holds the settings.
TABLE = "screening"

#: File of the installed service (deploy/README.md), and its state folder where that file names none.
SYSTEM_FILE = Path("/etc/chest-screening/worker.env")
SYSTEM_HOME = "/var/lib/chest-screening"


@dataclass(frozen=True)
class SettingsFile:
    """What a settings file says."""

    path: Path | None = None  #: None: there is none
    table: dict[str, Any] = field(default_factory=dict)  #: of a TOML file, by the names of settings
    variables: dict[str, str] = field(default_factory=dict)  #: of an environment file, by their names
    faults: tuple[str, ...] = ()  #: what stands outside the table of a TOML file, and would be ignored


def find() -> Path | None:
    """The file in force; raises BadSetting when it cannot be looked at."""
    named = os.environ.get(NAMED_BY)
    if named == NO_FILE:
        return None
    if named:
        if not Path(named).is_file():
            raise BadSetting(f"{NAMED_BY} names {named}, and there is no such file")
        return Path(named)
    if LOCAL_FILE.is_file():
        return LOCAL_FILE
    try:
        return SYSTEM_FILE if SYSTEM_FILE.is_file() else None
    except PermissionError as error:
        raise _unreadable(SYSTEM_FILE) from error


def read() -> SettingsFile:
    """What the file in force says; raises BadSetting naming it."""
    path = find()
    if path is None:
        return SettingsFile()
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows editors write a byte order mark
        if path.suffix == ".toml":
            document = tomllib.loads(text)
            table = document.get(TABLE, {})
            plain = {name.replace("-", "_"): value for name, value in table.items()} if isinstance(table, dict) else {}
            return SettingsFile(path, table=plain, faults=tuple(_outside(path, document)))
        variables = dict(_variable(line) for line in _lines(text))
    except PermissionError as error:
        raise _unreadable(path) from error
    except UnicodeDecodeError as error:
        raise BadSetting(f"{path} is not text in UTF-8: save it as UTF-8") from error
    except ValueError as error:  # not TOML, a quote without its end
        raise BadSetting(f"{path} cannot be read ({error}): correct it there") from error
    if path == SYSTEM_FILE:
        variables.setdefault("SCREENING_HOME", SYSTEM_HOME)
    return SettingsFile(path, variables=variables)


def _outside(path: Path, document: dict[str, Any]) -> Iterator[str]:
    """The faults of what a TOML document says outside the table of the settings."""
    for name, value in document.items():
        if name == TABLE and not isinstance(value, dict):
            yield f"{path}: {TABLE} is no table: write [{TABLE}] on a line of its own, and the settings below it"
        elif name != TABLE and isinstance(value, dict):
            yield f"{path}: there is no table [{name}]: settings stand under [{TABLE}]"
        elif name != TABLE:
            yield f"{path}: {name} stands in no table: put a line [{TABLE}] above it"


def _lines(text: str) -> list[str]:
    """Lines that set something; one that ends with a backslash goes on in the next (systemd.exec, EnvironmentFile=)."""
    lines = (line.strip() for line in text.replace("\\\n", "").splitlines())
    return [line for line in lines if line and line[0] not in "#;"]


def _variable(line: str) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    if not equals or not name.strip().isidentifier():
        raise ValueError(f"no line NAME=value: {name.strip()[:40]!r}")
    return name.strip(), " ".join(shlex.split(value))


def _unreadable(path: Path) -> BadSetting:
    return BadSetting(
        f"{path}, the settings of the service here, cannot be read: ask as its account (`sudo -u screening ...`), or"
        f" work with your own settings ({NAMED_BY}=FILE, or {NAMED_BY}={NO_FILE} for no file)"
    )
