"""The program `worker` with its verbs. A verb loads what it needs when it runs."""

import errno
import os
import sys

import click

from worker.cli import streams
from worker.cli.audit import audit
from worker.cli.batch import batch
from worker.cli.calibrate import calibrate
from worker.cli.dicom import receive, send
from worker.cli.drift import drift
from worker.cli.exit_codes import Exit
from worker.cli.export import export_deidentified, export_labels
from worker.cli.installation import check, db, reconcile, settings
from worker.cli.metrics import metrics
from worker.cli.model import model
from worker.cli.options import Verbs
from worker.cli.prune import prune
from worker.cli.review import prioritise, requeue, review, withdraw
from worker.cli.screen import screen
from worker.cli.user import user
from worker.cli.watch import run, watch
from worker.cli.web import web
from worker.cli.worklist import open_study, quarantine, show, worklist
from worker.errors import Interrupted, Misconfigured, Rejected, ScreeningError

#: Every verb below the heading that it has in the help, in the order of use.
VERBS = {
    "Screen": (screen, watch, run, batch),
    "Read": (worklist, show, open_study, quarantine, review, withdraw, prioritise, requeue),
    "The page": (web, user),
    "DICOM": (receive, send),
    "Models": (model, calibrate, drift),
    "Operate": (check, reconcile, settings, db, metrics, audit, prune),
    "Export": (export_labels, export_deidentified),
}


@click.group(cls=Verbs, sections=VERBS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chest-screening")
def app() -> None:
    """Screens chest radiographs for pneumonia and orders the worklist. Research use only; not a medical device.

    STUDY is a Study Instance UID or the end of one, an accession number, or the name of a file as it was dropped.
    """


def main() -> None:
    """Run the program; our own errors become one line and an exit code."""
    os.umask(0o077)  # database and logs may contain data of patients
    streams.make_usable()
    try:
        app(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(Exit.USAGE)
    except (Misconfigured, Rejected) as error:  # a stored image or model that a verb was to read
        _fail(error, Exit.NOT_WELL)
    except Interrupted as error:
        _fail(error, Exit.INCOMPLETE)
    except OSError as error:
        if not streams.is_fault_of_output(error):
            raise
        streams.give_up(error)
        if error.errno != errno.EPIPE:  # `head` and others stop reading: that is no fault to report
            sys.stderr.write(f"worker: the output cannot be written: {error.strerror} [output]\n")
        sys.exit(Exit.NOT_WELL)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted: what was taken in is kept; the same command continues\n")
        sys.exit(Exit.INTERRUPTED)


def _fail(error: ScreeningError, code: Exit) -> None:
    sys.stderr.write(f"worker: {error} [{error.code}]\n")
    sys.exit(code)
