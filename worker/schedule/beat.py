"""The batch of every night, by Celery beat: a message when the window opens; whoever takes it starts `worker batch`.

The batch is a process of its own, for it lasts for hours and a message is killed after minutes. One a machine.
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

#: The task, by name: whoever schedules it need not load what starts it.
START_BATCH = "worker.tasks.start_batch"

#: The schedule file of Celery beat names the class below by its module, and an earlier release had it in this one.
sys.modules.setdefault("worker.nightly", sys.modules[__name__])


class LocalCrontab(crontab):  # type: ignore[misc]  # Celery has no types
    """By the clock on the wall, as the window goes by it; Celery's own goes by UTC. Beat pickles it by name."""

    @property
    def tz(self) -> tzinfo:
        """The zone of this machine."""
        local: tzinfo = timezone.local
        return local


def words_of(settings: Settings) -> list[str]:
    """The words of SCREENING_NIGHTLY; raises BadSetting when `worker batch` would not take them."""
    try:
        words = shlex.split(settings.nightly)
    except ValueError as error:
        raise BadSetting(f"SCREENING_NIGHTLY cannot be read ({error}): write it as after `worker batch`") from error
    if words and "--between" not in words:
        raise BadSetting("SCREENING_NIGHTLY names no hours: add `--between 22:00-06:00`, so that a night has its end")
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
        # a message that nobody took while the window was open is for a night that has gone
        "options": {"queue": str(Priority.NIGHTLY), "expires": window.length_s},
    }
    return {"nightly batch": entry}


def window_of(words: Sequence[str]) -> Window:
    """The window that these words name; raises BadSetting."""
    hours = next(iter(words[words.index("--between") + 1 :]), "")
    try:
        return Window.parse(hours)
    except ValueError as error:
        raise BadSetting(f"SCREENING_NIGHTLY: {error}") from error


def start(settings: Settings) -> bool:
    """Start `worker batch` as SCREENING_NIGHTLY says, and leave it; False when one that we started is still at work."""
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
            pass_fds=[lock.fileno()],  # the lock is held as long as the batch lives
            start_new_session=True,
        )
    log.info("batch_started")
    return True
