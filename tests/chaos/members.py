"""The processes of a chaos run: watcher, workers, receiver, sender and page of one installation, under one clock."""

from pathlib import Path

from tests.acceptance.installation import Installation, celery
from tests.chaos.archive import Archive
from tests.chaos.crew import PAGE, RECEIVER, SENDER, WATCHER, Member
from tests.chaos.servers import LOOPBACK, Disk, PostgresServer, WallClock, free_port
from tests.receiver import CALLER, STAT

#: Waiting times of a test, shorter than in a hospital.
QUICK = {
    "SCREENING_FILE_QUIET_S": "1",
    "SCREENING_STUDY_QUIET_S": "2",
    "SCREENING_SCAN_INTERVAL_S": "1",
    "SCREENING_TRUNCATED_AFTER_S": "5",
    "SCREENING_MIN_FREE_MIB": "1",
    "SCREENING_PROVIDER": "cpu",
    "SCREENING_DATABASE_SILENCE_S": "3",
}


def installation(
    home: Path, postgres: PostgresServer, disk: Disk, archive: Archive, more: dict[str, str]
) -> Installation:
    """An installation with a receiver, an archive for its results and a page, each on a free port."""
    settings = {
        "SCREENING_DATABASE": postgres.url,
        "SCREENING_STORE": str(disk.folder),
        "SCREENING_RECEIVE_PORT": str(free_port()),
        "SCREENING_RECEIVE_METRICS_PORT": "0",
        "SCREENING_RECEIVE_FROM": CALLER,
        "SCREENING_AE_STAT": STAT,
        "SCREENING_SEND": f"ARCHIVE@{LOOPBACK}:{archive.port}",
        "SCREENING_WEB_PORT": str(free_port()),
    }
    return Installation(home, {**QUICK, **settings, **more})


def members(
    site: Installation, inbox: Path, folder: Path, workers: int, ports: tuple[int, int], clock: WallClock
) -> list[Member]:
    """`ports`: of the broker itself, for the watcher, and of the proxy before it, for the workers."""
    direct, cabled = (with_broker(site, port) | clock.environment for port in ports)
    verbs = {WATCHER: ("watch", inbox), RECEIVER: ("receive",), SENDER: ("send",), PAGE: ("web",)}
    found = [Member(name, site.command(*words), direct, folder / f"{name}.log") for name, words in verbs.items()]
    for number in range(1, workers + 1):
        name = f"worker{number}"
        found.append(Member(name, [*celery(), "--hostname", f"{name}@%h"], cabled, folder / f"{name}.log"))
    return found


def with_broker(site: Installation, port: int) -> dict[str, str]:
    """The environment of an installation with the broker at a port of this machine."""
    return {**site.environment(), "SCREENING_BROKER": f"redis://{LOOPBACK}:{port}/0"}
