"""The hours in which a batch takes new work."""

from datetime import UTC, datetime

import pytest

from worker.schedule.window import ALL_DAY, Window

NIGHT, MORNING = Window.parse("22:00-06:00"), Window.parse("06:30 - 12:00")


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-02T{clock}").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "clock", "opens_in_s"),
    [
        (NIGHT, "22:00", 0), (NIGHT, "23:59", 0), (NIGHT, "00:00", 0), (NIGHT, "05:59", 0),
        (NIGHT, "06:00", 16 * 3600), (NIGHT, "21:59", 60),
        (MORNING, "06:30", 0), (MORNING, "11:59", 0), (MORNING, "12:00", 18.5 * 3600), (MORNING, "06:00", 1800),
        (ALL_DAY, "00:00", 0), (ALL_DAY, "17:00", 0),
    ],
)  # fmt: skip
def test_a_window_is_open_until_its_end(window: Window, clock: str, opens_in_s: float) -> None:
    assert window.opens_in_s(at(clock)) == opens_in_s
    assert window.is_open(at(clock)) is (opens_in_s == 0)


def test_a_window_is_as_long_as_its_hours() -> None:
    assert [window.length_s / 3600 for window in (NIGHT, MORNING, ALL_DAY)] == [8, 5.5, 24]


@pytest.mark.parametrize(
    ("words", "moment", "closes"),
    [
        ("22:00-06:00", "2026-01-10 23:30", "2026-01-11 06:00"),
        ("22:00-06:00", "2026-01-10 05:59", "2026-01-10 06:00"),
        ("22:00-06:00", "2026-01-10 12:00", "2026-01-11 06:00"),
        ("01:00-05:00", "2026-01-10 12:00", "2026-01-11 05:00"),
        ("00:00-00:00", "2026-01-10 12:00", "2026-01-11 00:00"),
    ],
)
def test_a_window_closes_at_its_end(words: str, moment: str, closes: str) -> None:
    assert Window.parse(words).closes_at(datetime.fromisoformat(moment)) == datetime.fromisoformat(closes)


@pytest.mark.parametrize("words", ["", "22:00", "22-26", "late-early"])
def test_what_is_no_window_is_refused(words: str) -> None:
    with pytest.raises(ValueError):
        Window.parse(words)
