"""The units of deploy/ fit the program, and systemd finds them sound and tight."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from worker.batch import run
from worker.cli.main import app
from worker.runtime import children
from worker.runtime.configuration import names
from worker.runtime.settings_file import NAMED_BY, SYSTEM_FILE
from worker.schedule.window import Window

UNITS = ("worker", "batch", "metrics", "web", "receiver", "sender")
SERVICES = {name: Path(f"deploy/{name}.service") for name in UNITS}

#: What `systemd-analyze security` may find at most, of 100. The network, for database and broker by URL, is worth 8.
EXPOSURE = 15

each_service = pytest.mark.parametrize("unit", SERVICES.values(), ids=SERVICES)
where_systemd_is = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")


def values_of(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


@each_service
def test_a_unit_starts_a_verb_with_settings_that_the_program_knows(unit: Path) -> None:
    (command,) = values_of(unit, "ExecStart")
    program, verb = command.split()[:2]
    assert program.endswith("/bin/worker")
    assert verb in app.commands
    named = set(re.findall(r"\bSCREENING_[A-Z_]*[A-Z]\b(?!_\*)", unit.read_text(encoding="utf-8")))
    assert named, "the unit sets nothing: then it is not the unit that is meant"
    assert named <= {*names(), NAMED_BY}
    assert values_of(unit, "Environment") == [f"{NAMED_BY}={SYSTEM_FILE}"], "it reads what a person who asks reads"
    assert values_of(unit, "EnvironmentFile") == []


def test_systemd_waits_longer_than_the_worker_drains_and_signals_it_alone() -> None:
    (timeout,) = values_of(SERVICES["worker"], "TimeoutStopSec")
    assert float(timeout) > children.DRAIN_S + 10  # then Redis stops, and a scan of the inbox may still run
    assert values_of(SERVICES["worker"], "KillMode") == ["mixed"]
    (inbox,) = values_of(SERVICES["worker"], "ReadWritePaths")
    assert values_of(SERVICES["worker"], "ExecStart")[0].endswith(f" {inbox}"), (
        "the inbox it watches is not one it may write to"
    )


def test_the_nightly_batch_ends_before_systemd_loses_patience() -> None:
    (timeout,) = values_of(SERVICES["batch"], "TimeoutStopSec")
    assert float(timeout) > run.STOP_S + children.DRAIN_S
    (command,) = values_of(SERVICES["batch"], "ExecStart")
    begins = Window.parse(command.split("--between ")[1]).begins
    assert values_of(Path("deploy/batch.timer"), "OnCalendar") == [f"*-*-* {begins:%H:%M}"]


@where_systemd_is
@each_service
def test_systemd_understands_the_unit(unit: Path, tmp_path: Path) -> None:
    units = []
    for file in unit.parent.glob(f"{unit.stem}.*"):
        if file.suffix in (".service", ".timer"):
            there = tmp_path / f"chest-screening-{file.name}"
            there.write_text(re.sub(r"ExecStart=\S+", f"ExecStart={sys.executable}", file.read_text(encoding="utf-8")))
            units.append(there)
    verified = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")


@where_systemd_is
@each_service
def test_systemd_finds_the_unit_tight(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", str(unit)]
    judged = subprocess.run(command, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout + judged.stderr
