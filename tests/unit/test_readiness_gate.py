"""The gate at which the queue worker waits until ledger and broker are there."""

import subprocess
import sys
import threading
from pathlib import Path

from worker.runtime.readiness_gate import Gate
from worker.settings import Settings

#: Shuts the gate of a state folder, says so, and waits to be killed.
OWNER = """
import sys
from pathlib import Path
from worker.runtime.readiness_gate import Gate
from worker.settings import Settings
with Gate(Settings(home=Path(sys.argv[1]))):
    print("shut", flush=True)
    sys.stdin.read()
"""


def passing(settings: Settings) -> tuple[threading.Thread, threading.Event]:
    """Somebody on the way through, and whether he is."""
    passed = threading.Event()

    def walk() -> None:
        Gate(settings).pass_through()
        passed.set()

    thread = threading.Thread(target=walk, daemon=True)
    thread.start()
    return thread, passed


def test_who_comes_early_waits_until_the_gate_opens(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    gate = Gate(settings)
    with gate:
        thread, passed = passing(settings)
        assert not passed.wait(0.2)
        gate.open()
        thread.join(150)
        assert passed.is_set()
        Gate(settings).pass_through()  # it stays open


def test_a_dead_owner_leaves_no_gate_shut(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "shut\n"
        thread, passed = passing(settings)
        assert not passed.wait(0.2)
        owner.kill()
        thread.join(150)
        assert passed.is_set()


def test_where_nobody_built_a_gate_everybody_passes(tmp_path: Path) -> None:
    Gate(Settings(home=tmp_path / "none")).pass_through()
