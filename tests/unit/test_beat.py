"""The nightly batch by Celery beat: when it is due, and what is refused."""

import os
import pickle
import subprocess
import sys

import attrs
import pytest

from worker.errors import BadSetting
from worker.schedule.beat import START_BATCH, LocalCrontab, schedule
from worker.settings import Settings


def with_words(words: str) -> Settings:
    return attrs.evolve(Settings(), nightly=words)


def test_without_words_nothing_is_scheduled() -> None:
    assert schedule(with_words("")) == {}


def test_the_batch_is_due_when_its_window_opens() -> None:
    (entry,) = schedule(with_words("'/srv/my archive' --between 22:30-06:00 --rate 5/s")).values()
    assert (entry["task"], entry["options"]) == (START_BATCH, {"queue": "nightly", "expires": 7.5 * 3600})
    due = entry["schedule"]
    assert (due.hour, due.minute) == ({22}, {30})  # type: ignore[attr-defined]


IN_TOKYO = """
import pickle
from datetime import UTC, datetime, timedelta
import attrs
from worker.schedule.beat import schedule
from worker.settings import Settings
(entry,) = schedule(attrs.evolve(Settings(), nightly="/archive --between 22:30-06:00")).values()
due = pickle.loads(pickle.dumps(entry["schedule"]))
last = datetime(2026, 3, 2, 13, 29, tzinfo=UTC)
due.nowfun = lambda: last
print(due.remaining_estimate(last))
"""


def test_the_window_opens_by_the_clock_on_the_wall() -> None:
    """At half past ten in Tokyo it is 13:30 UTC."""
    environment = {**os.environ, "TZ": "Asia/Tokyo"}
    told = subprocess.run([sys.executable, "-c", IN_TOKYO], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "0:01:00"


def test_the_schedule_file_of_an_earlier_release_is_read() -> None:
    """Celery beat keeps the pickled class; its module has moved since."""
    old = pickle.dumps(LocalCrontab(minute="30", hour="22"), protocol=0).replace(
        b"worker.schedule.beat", b"worker.nightly"
    )
    assert b"worker.nightly" in old
    assert pickle.loads(old) == LocalCrontab(minute="30", hour="22")


@pytest.mark.parametrize(
    ("words", "fault"),
    [("/archive", "--between"), ("/archive --between", "not a window"), ("/archive --between late", "not a window"),
     ("'/archive --between 22:00-06:00", "cannot be read")],
)  # fmt: skip
def test_what_no_night_could_follow_is_refused(words: str, fault: str) -> None:
    with pytest.raises(BadSetting, match=fault) as refused:
        schedule(with_words(words))
    assert "SCREENING_NIGHTLY" in str(refused.value)
