"""A program that waits without a timeout ends on SIGTERM whichever thread the kernel gives the signal to."""

import subprocess
import sys

import pytest

WAITING = """
import signal, threading, time
from worker.runtime.stop_signals import stop_requested
stop = stop_requested()
def signalled():
    time.sleep(0.2)
    signal.pthread_kill(threading.get_ident(), signal.{name})
    time.sleep(60)
threading.Thread(target=signalled, daemon=True).start()
stop.wait()
print("ended")
"""

INTERRUPTED = """
import signal
from worker.runtime.stop_signals import stop_requested
stop = stop_requested()
with stop._cond:
    signal.raise_signal(signal.SIGTERM)
stop.wait()
print("ended")
"""

FORKED = """
import os, signal, time
from worker.runtime.stop_signals import stop_requested
stop = stop_requested()
child = os.fork()
if not child:
    time.sleep(60)
    os._exit(0)
time.sleep(0.1)
os.kill(child, signal.SIGTERM)
print("asked" if stop.wait(0.5) else "not asked")
os.kill(child, signal.SIGKILL)
"""


@pytest.mark.parametrize("code", [WAITING.format(name="SIGTERM"), WAITING.format(name="SIGINT"), INTERRUPTED])
def test_the_wait_ends(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=True)
    assert done.stdout == "ended\n"


def test_a_signal_to_a_forked_child_is_not_for_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=500, check=True)
    assert done.stdout == "not asked\n"


STUCK = """
import os, signal, threading
from worker.runtime.stop_signals import stop_requested
stop = stop_requested(0.2)
signal.raise_signal(signal.SIGTERM)
stop.wait()
def waits_for_ever():
    threading.Lock().acquire() and threading.Event().wait()
waits_for_ever()
"""


def test_a_program_that_waits_for_something_else_ends_all_the_same_and_says_where_it_was() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "in waits_for_ever" in done.stderr
