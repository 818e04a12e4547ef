"""A line that any peer can cause is logged once a second for each kind and peer, then with a count."""

import logging

import pytest

from worker.dicom.library_log import LibraryLog
from worker.dicom.log_limit import MOST_KEYS, LogLimit
from worker.runtime.logs import configure


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_the_next_line_says_how_many_were_left_out() -> None:
    clock = Clock()
    limit = LogLimit(clock)
    assert [limit.left_out("unknown_caller", "10.0.0.1") for _ in range(1000)] == [0] + [None] * 999
    assert limit.left_out("unknown_caller", "10.0.0.2") == 0  # another peer has its own line
    clock.now_s += 1.0
    assert [limit.left_out("unknown_caller", "10.0.0.1") for _ in range(2)] == [999, None]
    clock.now_s += 60.0
    assert limit.left_out("unknown_caller", "10.0.0.1") == 1


def test_ever_new_addresses_fill_neither_the_log_nor_memory() -> None:
    clock = Clock()
    limit = LogLimit(clock)
    logged = [limit.left_out("unknown_caller", str(number)) for number in range(10_000)]
    assert sum(each is not None for each in logged) == MOST_KEYS + 1
    assert len(limit._logged) <= MOST_KEYS + 1
    clock.now_s += 1.0
    assert limit.left_out("unknown_caller", "new") == 0
    assert limit.left_out("unknown_caller", "9999") == 0


def test_a_fault_of_the_library_is_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    handler = LibraryLog()
    for _ in range(100):
        handler.emit(logging.LogRecord("pynetdicom", logging.ERROR, "dul.py", 7, "PLANTED", None, None))
    assert [record.message for record in caplog.records] == ["association_fault"]
    assert "PLANTED" not in caplog.text


def test_the_library_that_writes_results_does_not_fill_the_log() -> None:
    """It logs each module that it copies."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        configure("INFO")
        assert logging.getLogger("worker.dicom.send.sender").isEnabledFor(logging.INFO)
        assert not logging.getLogger("highdicom.base").isEnabledFor(logging.INFO)
    finally:
        root.handlers[:], root.level = before[0], before[1]
