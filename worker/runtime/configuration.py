"""Loads the settings: environment (`SCREENING_*`) over a TOML file over defaults. Reports all faults together."""

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import attrs
import typed_settings as ts
from typed_settings.converters import PathConverter, TSConverter

from worker import settings as choices
from worker.errors import BadSetting
from worker.settings import Settings

ENV_PREFIX = "SCREENING_"

#: Variables that are not settings: the place of the TOML file, and a switch of the test suite.
OTHER_NAMES = frozenset({"SCREENING_SETTINGS", "SCREENING_SHARED"})

#: The library's messages: for one value (setting, reason; the value may hold a password), and for all together.
_ONE_VALUE = re.compile(
    r"Could not convert value .* for option '(\w+)' from loader .*?: \w+\((['\"])(.*)\2\)", re.DOTALL
)
_ALL_VALUES = re.compile(r"Could not convert loaded settings: \w+\((['\"])(.*)\1\)", re.DOTALL)


class NamedPath(PathConverter):
    """Paths relative to the folder of their file; an empty one (an unset variable) would mean that folder itself."""

    def __call__(self, value: Any, cls: type[Any]) -> Any:
        """The path; raises ValueError for an empty one."""
        if not str(value):
            raise ValueError("it is empty: name a folder or file, or leave it unset")
        return super().__call__(value, cls)


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


def names() -> list[str]:
    """The environment variables that are settings."""
    return [ENV_PREFIX + field.name.upper() for field in attrs.fields(Settings)]


def _load() -> tuple[Settings, dict[str, str]]:
    unknown = sorted(n for n in os.environ if n.startswith(ENV_PREFIX) and n not in {*names(), *OTHER_NAMES})
    faults = [_no_such(name) for name in unknown]
    file = os.environ.get("SCREENING_SETTINGS")
    if file and not Path(file).is_file():
        raise BadSetting(f"SCREENING_SETTINGS names {file}, and there is no such file")
    loaders: list[ts.Loader] = [
        ts.FileLoader({"*.toml": ts.TomlFormat("screening")}, [file or Path("screening.toml")]),
        ts.EnvLoader(ENV_PREFIX),
    ]
    from_file = _settings_in(Path(file or "screening.toml"))
    converter = TSConverter()
    converter.scalar_converters[Path] = NamedPath()
    try:
        settings = ts.load_settings(Settings, loaders, converter=converter)
    except ExceptionGroup as group:
        raise BadSetting("; ".join([*(_fault(error) for error in group.exceptions), *faults])) from group
    except ts.exceptions.TsError as error:
        raise BadSetting("; ".join([_fault(error), *faults])) from error
    if faults:
        raise BadSetting("; ".join(faults))
    origins = {}
    for field in attrs.fields(Settings):
        if ENV_PREFIX + field.name.upper() in os.environ:
            origins[field.name] = ENV_PREFIX + field.name.upper()
        elif field.name in from_file:
            origins[field.name] = str(file or "screening.toml")
    return settings, origins


def _settings_in(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("screening", {})
    except ValueError as error:  # not TOML, or not UTF-8
        raise BadSetting(f"{path} cannot be read ({error}): correct it there") from error
    return {name.replace("-", "_"): value for name, value in table.items()} if isinstance(table, dict) else {}


def _fault(error: Exception) -> str:
    text = _ONE_VALUE.sub(lambda m: f"{ENV_PREFIX}{m[1].upper()}: {m[3]}", str(error))
    text = _ALL_VALUES.sub(lambda m: m[2], text)
    text = re.sub(r"is not a valid (\w+)", lambda m: f"is not one of {', '.join(getattr(choices, m[1]))}", text)
    return " ".join(text.split())  # in one line


def _no_such(name: str) -> str:
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.85)
    return f"there is no setting {name}: " + (f"did you mean {near[0]}?" if near else "unset it, see `worker settings`")


def _shown(value: Any) -> Any:
    return re.sub(r"(://[^:/@]*:)[^@/]*@", r"\1***@", value) if isinstance(value, str) else value
