"""Loads the settings: environment (`SCREENING_*`) over a TOML file over defaults. Reports all faults together."""

import difflib
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import typed_settings as ts
from typed_settings.converters import PathConverter, TSConverter

from worker import settings as choices
from worker.errors import BadSetting
from worker.runtime import settings_file
from worker.runtime.settings_file import NAMED_BY, SettingsFile
from worker.settings import Settings

ENV_PREFIX = "SCREENING_"

#: Variables that are not settings: the place of the TOML file, and a switch of the test suite.
OTHER_NAMES = frozenset({NAMED_BY, "SCREENING_SHARED"})

#: The library's messages: for one value (setting, reason; the value may hold a password), and for all together.
_ONE_VALUE = re.compile(
    r"Could not convert value .* for option '(\w+)' from loader .*?: \w+\((['\"])(.*)\2\)", re.DOTALL
)
_ALL_VALUES = re.compile(r"Could not convert loaded settings: \w+\((['\"])(.*)\1\)", re.DOTALL)


#: Bytes that file systems take for one name.
LONGEST_NAME = 255


class NamedPath(PathConverter):
    """Paths relative to the folder of their file; an empty one (an unset variable) would mean that folder itself.

    `~/` is the home of the account that runs the program.
    """

    def __call__(self, value: Any, cls: type[Any]) -> Any:
        """The path; raises ValueError for an empty one, and for one that no file system takes."""
        path = Path(str(value))
        if not str(value):
            raise ValueError("it is empty: name a folder or file, or leave it unset")
        if "\0" in str(value) or any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
            raise ValueError(f"a name in it is longer than {LONGEST_NAME} bytes, or holds a byte 0: name it otherwise")
        return super().__call__(path.expanduser() if path.parts[:1] == ("~",) else value, cls)


def load() -> Settings:
    """The settings in force; raises BadSetting naming every fault at once."""
    return _load()[0]


def load_with_origins() -> list[tuple[str, Any, str, str]]:
    """Each setting as (name, value in force, where it came from, meaning); passwords in URLs are masked."""
    settings, origins = _load()
    return [
        (
            field.name,
            _shown(getattr(settings, field.name)),
            origins.get(field.name, "default"),
            field.metadata["meaning"],
        )
        for field in attrs.fields(Settings)
    ]


def in_use() -> list[tuple[str, str]]:
    """What a verb works on, as (what, which): settings file, database and broker, without any password."""
    settings, _ = _load()
    given = sorted(variable for variable in names() if variable in os.environ)
    path = settings_file.find()
    file = "no file" if path is None else str(path.absolute())
    embedded = f"private Redis in {settings.home}"
    database = f"SQLite, {settings.home / 'screening.sqlite'}"
    return [
        ("settings", f"{file}; environment: {', '.join(given)}" if given else file),
        ("database", str(_shown(settings.database)) if settings.database else database),
        ("broker", str(_shown(settings.broker)) if settings.broker else embedded),
    ]


def places_for_a_shell() -> str:
    """Where the data lie, as assignments for backup.sh and restore.sh: the database with its password."""
    settings = load()
    places = {"home": settings.home, "database": settings.database, "store": settings.store_folder or settings.store}
    return "\n".join(f"{name}={shlex.quote(str(place))}" for name, place in places.items())


def names() -> list[str]:
    """The environment variables that are settings."""
    return [ENV_PREFIX + field.name.upper() for field in attrs.fields(Settings)]


def _load() -> tuple[Settings, dict[str, str]]:
    found = settings_file.read()
    _export(found)
    from_file = found.table or {
        name.removeprefix(ENV_PREFIX).lower(): value for name, value in found.variables.items() if name in names()
    }
    environment = {field.name: os.environ.get(ENV_PREFIX + field.name.upper()) for field in attrs.fields(Settings)}
    given = {name: value for name, value in environment.items() if value is not None}
    sources = [Source(from_file, found.path), Source(given)]
    faults = [*found.faults, *_unknown(found)]
    try:
        settings = _settings(sources)
    except ExceptionGroup as group:
        values = [_fault(error) for error in group.exceptions]
        raise BadSetting("; ".join([*values, *_disagreements(sources, values), *faults])) from group
    except ts.exceptions.TsError as error:
        raise BadSetting("; ".join([_fault(error), *faults])) from error
    if faults:
        raise BadSetting("; ".join(faults))
    origins = {name: str(found.path) for name in from_file} | {name: ENV_PREFIX + name.upper() for name in given}
    return settings, origins


class Source(ts.loaders.DictLoader):
    """Values by the names of settings. Their relative paths begin at the folder of the file that they are from."""

    def __init__(self, values: dict[str, Any], path: Path | None = None) -> None:
        known = {field.name for field in attrs.fields(Settings)}
        super().__init__({name: value for name, value in values.items() if name in known})
        self.path = path

    def __call__(self, settings_cls: Any, options: Any) -> Any:
        """The values, and where they are from."""
        del settings_cls, options
        return ts.types.LoadedSettings(self.settings, ts.types.LoaderMeta(self, self.path and self.path.parent))

    def without(self, left_out: set[str]) -> "Source":
        """The same source without some settings."""
        return Source({name: value for name, value in self.settings.items() if name not in left_out}, self.path)


def _settings(sources: list[Source]) -> Settings:
    """The settings by these sources, of which the later go first. Raises ExceptionGroup, TsError."""
    converter = TSConverter()
    converter.scalar_converters[Path] = NamedPath()
    return ts.load_settings(Settings, list(sources), converter=converter)


def _disagreements(sources: list[Source], faults: list[str]) -> list[str]:
    """The rules that the other settings break: those of which no value is at fault itself."""
    wrong = {name for name in names() if any(fault.startswith(f"{name}:") for fault in faults)}
    at_fault = {name.removeprefix(ENV_PREFIX).lower() for name in wrong}
    left_out = at_fault.union(*(rule.names for rule in choices.RULES if at_fault & set(rule.names)))
    if not at_fault:
        return []  # every value is right by itself, so the rules were checked already
    try:
        _settings([source.without(left_out) for source in sources])
    except ExceptionGroup as group:
        return [_fault(error) for error in group.exceptions]
    return []


def _unknown(found: SettingsFile) -> list[str]:
    """Names of no setting: in the environment, in an environment file, in the table of a TOML file."""
    variables = [n for n in os.environ if n.startswith(ENV_PREFIX) and n not in {*names(), *OTHER_NAMES}]
    variables += [n for n in found.variables if n.startswith(ENV_PREFIX) and n not in names()]
    known = {field.name for field in attrs.fields(Settings)}
    keys = [f"{found.path}: {_no_such(n, sorted(known))}" for n in sorted(found.table) if n not in known]
    return [*(_no_such(n, names()) for n in sorted(variables)), *keys]


def _export(found: SettingsFile) -> None:
    """Put other variables of an environment file, such as AWS_..., into the environment, where libraries read them."""
    for name, value in found.variables.items():
        if not name.startswith(ENV_PREFIX):
            os.environ.setdefault(name, value)


def _fault(error: Exception) -> str:
    text = _ONE_VALUE.sub(lambda m: f"{ENV_PREFIX}{m[1].upper()}: {m[3]}", str(error))
    text = _ALL_VALUES.sub(lambda m: m[2], text)
    text = re.sub(r"is not a valid (\w+)", lambda m: f"is not one of {', '.join(getattr(choices, m[1]))}", text)
    return " ".join(text.split())  # in one line


def _no_such(name: str, among: Sequence[str]) -> str:
    said = name if among[0].startswith(ENV_PREFIX) else name.lower().removeprefix(ENV_PREFIX.lower())
    near = difflib.get_close_matches(said, among, n=1, cutoff=0.85)
    return f"there is no setting {name}: " + (f"did you mean {near[0]}?" if near else "unset it, see `worker settings`")


def _shown(value: Any) -> Any:
    """The value, without the password of a URL: between user and host, or among its parameters."""
    if not isinstance(value, str):
        return value
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1***", re.sub(r"(://[^:/@]*:).*@", r"\1***@", value))
