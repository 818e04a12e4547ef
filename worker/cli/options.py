"""Shared by the verbs: options, and the settings, ledger and store of the installation."""

import json
import math
import os
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from worker.cli import streams

#: Earlier than everything in a ledger.
EARLIEST = datetime(2000, 1, 1)

Verb = TypeVar("Verb", bound=Callable[..., Any])


class Verbs(click.Group):
    """A group whose help prints the first sentence of every verb whole, perhaps under several headings."""

    def __init__(self, *args: Any, sections: Mapping[str, Collection[click.Command]] | None = None, **settings: Any):
        super().__init__(*args, **settings)
        self.sections = sections
        for verbs in (sections or {}).values():
            for verb in verbs:
                self.add_command(verb)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs, their sentences folded."""
        for heading, verbs in (self.sections or {"Commands": self.commands.values()}).items():
            with formatter.section(heading):
                formatter.write_dl([(str(verb.name), verb.get_short_help_str(limit=1000)) for verb in verbs])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb. Without this, Click would end silently on any closed pipe, as if it were that of the output."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if streams.is_fault_of_output(error):
                raise
            raise RuntimeError("a connection or a process's pipe was closed by its other end") from error


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def since(help: str) -> Callable[[Verb], Verb]:
    """The option of the first day that counts."""
    return click.option("--since", metavar="YYYY-MM-DD", type=click.DateTime(["%Y-%m-%d"]), help=help)


class Seconds(click.FloatRange):
    """A number of seconds within a range. `nan` is refused: Click's own comparison with the range lets it pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; fails for any other text."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return number


def require_utf8(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse bytes that are not UTF-8, as a terminal with another character set sends: no database stores them."""
    if value is not None and any("\ud800" <= c <= "\udfff" for c in value):
        raise click.BadParameter("not UTF-8: set the terminal to UTF-8")
    return value


def require_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse an empty name: entries of the audit need one."""
    if not value.strip():
        raise click.BadParameter("a name is needed")
    require_utf8(context, parameter, value)
    return value


def as_spelled(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """The name of a study as the ledger spells it."""
    return None if value is None else spelled(value)


def spelled(name: str) -> str:
    """An argument in UTF-8: it may be the name of a file, which may have any bytes."""
    from worker.ledger.intake.arrivals import in_utf8

    return in_utf8(name)


def start_of(day: datetime | None) -> datetime:
    """The start of a day (UTC); without a day, EARLIEST."""
    return (day or EARLIEST).replace(tzinfo=UTC)


by = click.option("--by", required=True, metavar="NAME", callback=require_name, help="Who decides, for the audit.")
asked_by = click.option(
    "--by",
    default="",
    metavar="NAME",
    callback=require_utf8,
    help="Who asks, for the audit. Default: the account.",
)


study = click.argument("study", metavar="STUDY", callback=as_spelled)
inbox = click.argument("inbox", metavar="INBOX", type=click.Path(exists=True, file_okay=False, path_type=Path))


def existing(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Path, ...]:
    """The paths, which must exist. An empty one (an unset variable) would mean the whole current folder."""
    for value in values:
        if not value or not os.path.lexists(value):
            raise click.BadParameter(f"no such file or folder: {value!r}")
    return tuple(Path(value) for value in values)


def require_extra(extra: str, package: str) -> None:
    """Raise BadSetting when a verb needs packages that are not installed."""
    from importlib.util import find_spec

    from worker.errors import BadSetting

    if find_spec(package) is None:
        raise BadSetting(f"this verb needs the extra `{extra}`: `pip install '.[{extra}]'` where the source lies")


def settings() -> Any:
    """The settings of the installation, read once for each command."""
    from worker.runtime import configuration

    root = click.get_current_context().find_root()
    root.obj = root.obj or configuration.load()
    return root.obj


def shows_identifiers() -> bool:
    """Whether the database stores identifiers of patients as received, so that they can be shown."""
    from schema.vocabulary import IdentifierMode

    return bool(settings().identifiers is IdentifierMode.PLAIN)


def print_in_use() -> None:
    """Say which settings file, database and broker this verb uses."""
    from worker.runtime import configuration

    for what, which in configuration.in_use():
        click.echo(f"{what:9} {which}")


def ledger() -> tuple[Any, Any]:
    """The database and the store of the installation; the database is closed when the verb ends."""
    from worker.ledger.connect import open_existing
    from worker.store import open_store

    in_force = settings()
    database = open_existing(in_force)
    click.get_current_context().call_on_close(database.close)
    return database, open_store(in_force)


def study_uid(database: Any, study: str) -> str:
    """The Study Instance UID of the one study that a person means; raises UnknownStudy."""
    from worker.ledger.identifiers import IdentifierPolicy
    from worker.ledger.lookup import resolve
    from worker.ledger.transactions import reading

    with reading(database) as connection:
        return resolve(connection, study, IdentifierPolicy.of(settings()))


def record_view(database: Any, by: str, study_uid: str | None = None) -> None:
    """Record a view of a study or of a list before it is shown, if the settings ask for it."""
    from schema.setting_values import AuditReads
    from schema.vocabulary import AuditAction
    from worker.ledger import audit
    from worker.ledger.clocks import now

    kept = settings().audit_reads
    if kept is AuditReads.LISTS or (kept is AuditReads.STUDIES and study_uid is not None):
        audit.note(database, AuditAction.LISTED if study_uid is None else AuditAction.SHOWN, by, now(), [study_uid])


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
