"""Where the kernel's limits of inotify are reached the inbox is scanned all the same, and it is said."""

import subprocess
from pathlib import Path

import pytest

from tests.acceptance.installation import QUICK, SAMPLES, Installation, events, wait_until
from worker.runtime.children import child

pytestmark = pytest.mark.slow

#: Runs its arguments in a user namespace of its own, whose limit is 0.
LIMITED = ["unshare", "--user", "--map-root-user", "sh", "-c"]
SCRIPT = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'


@pytest.fixture
def limited() -> list[str]:
    """The words before a command that has no inotify instances."""
    words = [*LIMITED, SCRIPT, "sh"]
    try:
        done = subprocess.run([*words, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare(1) here")
    if done.returncode:
        pytest.skip(f"no user namespace here: {done.stderr.decode()}")
    return words


def test_the_watcher_scans_and_says_once_that_there_are_no_events(tmp_path: Path, limited: list[str]) -> None:
    site, inbox, log = Installation(tmp_path / "home", QUICK), tmp_path / "inbox", tmp_path / "run.log"
    inbox.mkdir()
    with child([*limited, *site.command("run", inbox)], log, 60, site.environment()) as process:
        wait_until(lambda: "watching" in log.read_text(), 60)
        (inbox / "a.png").write_bytes((SAMPLES / "ida_8_bit.png").read_bytes())
        wait_until(lambda: not any(inbox.iterdir()), 30)
        assert process.poll() is None
    said = [event for event in events(log) if event["event"] == "file_events_unavailable"]
    assert [event["reason"] for event in said] == [
        "inotify instance limit reached: raise fs.inotify.max_user_instances (sysctl)"
    ]


def test_check_says_so_and_is_well(tmp_path: Path, limited: list[str]) -> None:
    site = Installation(tmp_path / "home")
    done = subprocess.run(
        [*limited, *site.command("check")], capture_output=True, text=True, env=site.environment(), check=False
    )
    assert done.returncode == 0, done.stdout
    assert "fs.inotify.max_user_instances" in done.stdout
    assert " events " not in site.run("check")
