"""The program `trainer` with its verbs. Only the verbs that need Keras and TensorFlow load them."""

import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from rich.console import Console

from trainer.cli.audit import audit
from trainer.cli.calibrate import calibrate
from trainer.cli.evaluate import compare, evaluate, shift
from trainer.cli.exit_codes import Exit
from trainer.cli.familiarity import familiarity
from trainer.cli.fit import fit, recipes
from trainer.cli.half import half
from trainer.cli.heat import heat
from trainer.cli.lungs import lungs
from trainer.cli.manifest import manifest
from trainer.cli.options import Verbs
from trainer.cli.reference import reference
from trainer.cli.report import report
from trainer.cli.resize import resize
from trainer.cli.styles import styles
from worker.errors import ScreeningError

#: Every verb, in the order of use.
VERBS = (
    manifest,
    audit,
    styles,
    recipes,
    lungs,
    fit,
    report,
    evaluate,
    shift,
    heat,
    familiarity,
    reference,
    calibrate,
    half,
    resize,
    compare,
)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
def app() -> None:
    """Train and measure the models that `worker` screens with."""


for verb in VERBS:
    app.add_command(verb)


#: Faults of the system that have a remedy of their own.
REMEDIES = {
    errno.ENOSPC: "make room, and start the same command again",
    errno.EDQUOT: "make room, and start the same command again",
    errno.ENOENT: "make its folder first",
}


def main(words: Sequence[str] | None = None) -> None:
    """Run the program with these words, by default those of the command line.

    Our own errors, and files that cannot be read or written, become one line and exit 1."""
    try:
        app(words, standalone_mode=False)  # otherwise click ends an interrupted run with 1, the code of refused data
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.USAGE)
    except ScreeningError as error:
        _fail(error.code, str(error))
    except BrokenPipeError:  # `head` and others stop reading: that is no fault to report
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python fails again when it ends
        sys.exit(Exit.REFUSED)
    except OSError as error:
        if error.errno is None:  # a library's own, which names no fault of the system
            raise
        where = f"{error.filename}: " if error.filename else ""
        remedy = REMEDIES.get(error.errno, "check the path, and who may write there")
        _fail("file_fault", f"{where}{error.strerror}: {remedy}")
    except (click.Abort, KeyboardInterrupt):
        sys.exit(Exit.INTERRUPTED)


def _fail(code: str, message: str) -> NoReturn:
    Console(stderr=True).print(f"[red]{code}[/red]: ", end="")
    Console(stderr=True, markup=False, highlight=False, emoji=False).print(message, soft_wrap=True)
    sys.exit(Exit.REFUSED)
