"""Nothing is left out silently: a closed window, an early end, a folder of archives are reported."""

import signal
import subprocess
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.acceptance.installation import SAMPLES, Installation

pytestmark = pytest.mark.slow


def test_a_batch_outside_its_hours_says_until_when_it_waits_and_its_early_end_is_no_success(tmp_path: Path) -> None:
    site = Installation(tmp_path / "home")
    opens = datetime.now().astimezone() + timedelta(hours=2)
    hours = f"{opens:%H:%M}-{opens + timedelta(hours=1):%H:%M}"
    with subprocess.Popen(
        site.command("batch", SAMPLES, "--between", hours),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=site.environment(),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        told = next(line for line in process.stderr if "waits until" in line)
        process.send_signal(signal.SIGTERM)
        out, rest = process.communicate(timeout=500)
    assert f"{opens:%Y-%m-%d %H:%M}" in told
    assert (process.returncode, out) == (2, "")
    assert "stopped before anything was begun" in rest
    assert not (site.home / "reports").exists()


def test_a_folder_that_holds_only_archives_is_told(tmp_path: Path) -> None:
    site, inbox = Installation(tmp_path / "home"), tmp_path / "in"
    inbox.mkdir()
    for name in ("a", "b"):
        with zipfile.ZipFile(inbox / f"{name}.zip", "w") as archive:
            archive.write(SAMPLES / "ida_8_bit.png", "x.png")
    done = subprocess.run(
        site.command("screen", inbox), capture_output=True, text=True, env=site.environment(), check=False
    )
    assert done.returncode == 0
    assert "2 of these files are archives, such as ZIP: unpack them" in done.stderr
    assert "nothing was screened" in done.stderr
    assert site.run("quarantine").count("an archive of files (ZIP): unpack it") == 2
    other = Installation(tmp_path / "other")
    assert "2 files could not be read" in other.run("batch", inbox, "--report", tmp_path / "reports").splitlines()[0]
