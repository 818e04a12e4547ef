"""The nightly batch by Celery beat: when it is due, and what is refused."""

from datetime import datetime, timedelta

import attrs
import pytest

from worker.errors import BadSetting
from worker.nightly import START_BATCH, schedule
from worker.settings import Settings


def with_words(words: str) -> Settings:
    return attrs.evolve(Settings(), nightly=words)


def test_without_words_nothing_is_scheduled() -> None:
    assert schedule(with_words("")) == {}


def test_the_batch_is_due_when_its_window_opens() -> None:
    (entry,) = schedule(with_words("'/srv/my archive' --between 22:30-06:00 --rate 5/s")).values()
    assert (entry["task"], entry["options"]) == (START_BATCH, {"queue": "nightly", "expires": 3600.0})
    due = entry["schedule"]
    assert (due.hour, due.minute) == ({22}, {30})  # type: ignore[attr-defined]
    today = datetime.now().astimezone().replace(hour=22, minute=29)
    assert due.remaining_delta(today - timedelta(hours=1))[0].utcoffset() == today.utcoffset()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "fault"),
    [("/archive", "--between"), ("/archive --between", "no window"), ("/archive --between late", "no window"),
     ("'/archive --between 22:00-06:00", "cannot be read")],
)  # fmt: skip
def test_what_no_night_could_follow_is_refused(words: str, fault: str) -> None:
    with pytest.raises(BadSetting, match=fault) as refused:
        schedule(with_words(words))
    assert "SCREENING_NIGHTLY" in str(refused.value)
