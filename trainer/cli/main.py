"""The program `trainer` with its verbs. Only the verbs that need Keras and TensorFlow load them."""

import sys

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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def app() -> None:
    """Train and measure the models that `worker` screens with."""


for verb in VERBS:
    app.add_command(verb)


def main() -> None:
    """Run the program; our own errors become one line and exit 1."""
    try:
        app(standalone_mode=False)  # otherwise click ends an interrupted run with 1, the code of refused data
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.USAGE)
    except ScreeningError as error:
        Console(stderr=True).print(f"[red]{error.code}[/red]: ", end="")
        Console(stderr=True, markup=False, highlight=False).print(str(error))
        sys.exit(Exit.REFUSED)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(Exit.INTERRUPTED)
