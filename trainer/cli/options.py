"""Shared by the verbs: options, the command line of a run, and the log level of TensorFlow."""

import importlib
import os
import shlex
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from worker.errors import BadSetting

FILE = click.Path(path_type=Path)

#: Seeds that numpy and Keras take.
SEED = click.IntRange(0, 2**32 - 1)

#: File descriptor of standard error.
STDERR = 2


class Verbs(click.Group):
    """A group whose help prints the first sentence of every verb whole, in the order of use."""

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs, their sentences folded."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.get_short_help_str(limit=1000)) for name, verb in self.commands.items()])


data = click.option(
    "--data",
    type=FILE,
    required=True,
    help="Folder with the images: NORMAL and PNEUMONIA below it, or any folders and an index.csv.",
)
index = click.option(
    "--index", type=FILE, help="CSV with path, label [patient, split, subtype, view, age, source, source_sha256]."
)
patient_each = click.option(
    "--each-file-a-patient", is_flag=True, help="Take each file as a patient of its own, where no patient is known."
)
threshold_rule = click.option(
    "--threshold-rule",
    metavar="NAME[=NUMBER]",
    help="sensitivity=0.985, specificity=0.9, youden, fixed=0.5, cost=10, target-sensitivity=0.95 or"
    " target-specificity=0.85 (these two with 95 % assurance), instead of the default.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def command_line(context: click.Context) -> str:
    """The shell command that runs the verb of `context` again, without options at their default."""
    words = list(_words(context.command_path.split(" "), context))
    return shlex.join(words)


def print_left_out(unreadable: Sequence[dict[str, str]]) -> None:
    """The files that cannot be read, on standard error."""
    for fault in unreadable:
        click.echo(f"left out: {fault['path']}: {fault['message']} [{fault['code']}]", err=True)


def load_keras() -> None:
    """Load Keras without the messages of its backend on standard error, unless the environment sets their level.

    Raises BadSetting when Keras, or the package of its backend, cannot be imported.
    """
    silence = nullcontext() if "TF_CPP_MIN_LOG_LEVEL" in os.environ else _held_back()
    try:
        with silence:
            importlib.import_module("keras")
    except (ImportError, ValueError) as error:  # ValueError: a backend that Keras does not know
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        raise BadSetting(
            f"Keras cannot be loaded with the backend {backend!r} ({error}): install that backend's package (for"
            " tensorflow: pip install 'chest-screening[trainer]'), or set KERAS_BACKEND=tensorflow"
        ) from error


@contextmanager
def _held_back() -> Iterator[None]:
    """Hold back what is written to standard error, and write it after all if what is done fails.

    TensorFlow writes messages before it reads the level that it is given, so this holds them back at the descriptor.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    own = os.dup(STDERR)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), STDERR)
        try:
            yield
        except BaseException:
            held_back.seek(0)
            os.write(own, held_back.read())
            raise
        finally:
            os.dup2(own, STDERR)
            os.close(own)


def _words(program: Iterable[str], context: click.Context) -> Iterable[str]:
    yield from program
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if value is None or value == parameter.get_default(context):
            continue
        if isinstance(parameter, click.Option):
            yield from _option(parameter, value)
        else:
            yield str(value)


def _option(option: click.Option, value: Any) -> Iterable[str]:
    name = option.opts[-1]
    if option.is_flag:
        yield name
        return
    for each in value if option.multiple else [value]:
        yield name
        yield from (map(str, each) if option.nargs > 1 else [str(each)])
