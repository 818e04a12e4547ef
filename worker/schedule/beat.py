"""The nightly batch by Celery beat: when the window opens, a message is sent, and its worker starts `worker batch`.

The batch is a separate process, because it lasts for hours and a message is killed after minutes. One per machine.
"""

import fcntl
import logging
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import tzinfo

from celery.schedules import crontab
from celery.utils.time import timezone

from schema.vocabulary import Priority
from worker.errors import BadSetting
from worker.schedule.window import Window
from worker.settings import Settings

log = logging.getLogger(__name__)

#: Name of the task. To schedule by name does not import the code that starts the batch.
START_BATCH = "worker.tasks.start_batch"

#: The schedule file of Celery beat names the class below by its module, and an earlier release had it in this one.
sys.modules.setdefault("worker.nightly", sys.modules[__name__])


class LocalCrontab(crontab):  # type: ignore[misc]  # Celery has no types
    """A crontab in local time, like the window; Celery's own uses UTC. Beat pickles it by name."""

    @property
    def tz(self) -> tzinfo:
        """The zone of this machine."""
        local: tzinfo = timezone.local
        return local


def words_of(settings: Settings) -> list[str]:
    """The arguments in SCREENING_NIGHTLY; raises BadSetting when `worker batch` would not accept them."""
    try:
        words = shlex.split(settings.nightly)
    except ValueError as error:
        raise BadSetting(
            f"SCREENING_NIGHTLY cannot be read ({error}): write the arguments of `worker batch`"
        ) from error
    if words and "--between" not in words:
        raise BadSetting("SCREENING_NIGHTLY has no hours: add `--between 22:00-06:00`, so that the batch has an end")
    return words


def schedule(settings: Settings) -> dict[str, dict[str, object]]:
    """Celery's `beat_schedule`: nothing, or the nightly batch at the minute when its window opens, local time."""
    words = words_of(settings)
    if not words:
        return {}
    window = window_of(words)
    entry: dict[str, object] = {
        "task": START_BATCH,
        "schedule": LocalCrontab(minute=str(window.begins.minute), hour=str(window.begins.hour)),
        # no worker took the message while the window was open: its night is over
        "options": {"queue": str(Priority.NIGHTLY), "expires": window.length_s},
    }
    return {"nightly batch": entry}


def window_of(words: Sequence[str]) -> Window:
    """The window in these arguments; raises BadSetting."""
    hours = next(iter(words[words.index("--between") + 1 :]), "")
    try:
        return Window.parse(hours)
    except ValueError as error:
        raise BadSetting(f"SCREENING_NIGHTLY: {error}") from error


def start(settings: Settings) -> bool:
    """Start `worker batch` with the arguments in SCREENING_NIGHTLY; False when an earlier one is still running."""
    folder = settings.home / "logs"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (settings.home / "nightly.lock").open("a") as lock, (folder / "nightly.log").open("ab") as output:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("batch_under_way")
            return False
        subprocess.Popen(
            [sys.executable, "-m", "worker", "batch", *words_of(settings)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[lock.fileno()],  # the lock is held as long as the batch runs
            start_new_session=True,
        )
    log.info("batch_started")
    return True
