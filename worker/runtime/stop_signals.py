"""SIGTERM and SIGINT as an event that a program may wait for without a timeout."""

import faulthandler
import os
import signal
import threading

STOPPING = (signal.SIGTERM, signal.SIGINT)


def stop_requested(end_within_s: float | None = None) -> threading.Event:
    """An event that SIGTERM and SIGINT set from now on, also while the main thread waits for a lock.

    A handler in Python runs only when the main thread runs Python code again: when the kernel gives the signal to
    another thread while the main one waits, that is never. And a handler that sets an event itself waits for ever when
    it interrupts the code that holds the event's lock. So the interpreter writes the signal's number to a pipe, and a
    thread that reads it sets the event. Call it in the main thread.

    `end_within_s`: a process that has not ended so long after the signal ends with exit code 1, and writes where each
    of its threads stood (files and lines, no values): whatever it waits for, nothing was promised by it.
    """
    stop = threading.Event()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for number in STOPPING:
        signal.signal(number, _leave_to_the_pipe)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_forget_the_pipe)
    arguments = reading, stop, end_within_s
    threading.Thread(target=_set_when_asked, args=arguments, name="stop_signals", daemon=True).start()
    return stop


def _leave_to_the_pipe(number: int, frame: object) -> None:
    """Keep the signal from ending the process."""


def _forget_the_pipe() -> None:
    """A forked child's signals are not its parent's."""
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)


def _set_when_asked(reading: int, stop: threading.Event, end_within_s: float | None) -> None:
    while not stop.is_set():
        if set(os.read(reading, 64)) & set(STOPPING):
            stop.set()
    if end_within_s is not None:
        faulthandler.dump_traceback_later(end_within_s, exit=True)
