"""How fast `worker receive` takes images, beside DCMTK's `storescp --fork`, in turns on the same files:
python -m tests.benchmarks.receiver --images 8 --rounds 3

Eight `storescu` at once under two calling titles. `storescp` neither hashes nor books. Needs DCMTK.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from schema.database import Database
from tests.phantoms import dicom_file
from worker.monitoring.reconciliation import reconcile
from worker.store.folder import FolderStore

SENDERS, TITLES = 8, ("MODALITY1", "MODALITY2")

#: A radiograph of 15.5 MB.
ROWS, COLUMNS = 3056, 2544


def make_files(folder: Path, images: int) -> list[Path]:
    """A folder for each sender, with images of studies of their own."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 4096, (ROWS, COLUMNS), dtype=np.uint16)
    folders = []
    for sender in range(SENDERS):
        own = folder / f"sender{sender}"
        own.mkdir()
        for number in range(images):
            pixels[0, :2] = sender, number
            uid = f"1.2.826.0.1.3680043.10.9.{sender}.{number}"
            uids: dict[str, Any] = {
                "StudyInstanceUID": uid,
                "SeriesInstanceUID": f"{uid}.1",
                "SOPInstanceUID": f"{uid}.1.1",
            }
            (own / f"{number}.dcm").write_bytes(dicom_file(pixels, **uids))
        folders.append(own)
    return folders


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as plain:
        plain.bind(("127.0.0.1", 0))
        return int(plain.getsockname()[1])


def send(port: int, folders: list[Path]) -> float:
    """Seconds until all senders are done; each must end well."""
    began = time.monotonic()
    running = [
        subprocess.Popen(
            [
                "storescu",
                "-aet",
                TITLES[at % 2],
                "-aec",
                "CHESTSCREENING",
                "+sd",
                "-R",
                "127.0.0.1",
                str(port),
                str(own),
            ]
        )
        for at, own in enumerate(folders)
    ]
    ends = [process.wait() for process in running]
    assert not any(ends), ends
    return time.monotonic() - began


def await_port(port: int) -> None:
    """Wait until somebody listens."""
    while True:
        with socket.socket() as plain:
            if plain.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)


def largest_mib(pid: int, stop: threading.Event, field: str, found: list[float]) -> None:
    """Watch one number of /proc/PID/smaps_rollup."""
    while not stop.wait(0.05):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            return
        values = [int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith(field)]
        found[0] = max(found[0], *values)


def measure(
    start: Callable[[Path, int], "subprocess.Popen[bytes]"], folders: list[Path], at: Path
) -> tuple[float, float]:
    """(seconds, largest resident memory in MiB) of one round into an empty folder."""
    at.mkdir()
    port = free_port()
    process = start(at, port)
    stop, found = threading.Event(), [0.0]
    try:
        await_port(port)
        watching = threading.Thread(target=largest_mib, args=[process.pid, stop, "Rss:", found])
        watching.start()
        took = send(port, folders)
        stop.set()
        watching.join()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(40)
    return took, found[0]


def worker(at: Path, port: int) -> "subprocess.Popen[bytes]":
    """`worker receive` on an empty state folder."""
    environment = {
        **os.environ, "SCREENING_HOME": str(at), "SCREENING_RECEIVE_PORT": str(port),
        "SCREENING_RECEIVE_FROM": ",".join(TITLES), "SCREENING_RECEIVE_METRICS_PORT": "0",
        "SCREENING_MIN_FREE_MIB": "1",
    }  # fmt: skip
    return subprocess.Popen([sys.executable, "-m", "worker", "receive"], env=environment, stderr=subprocess.DEVNULL)


def storescp(at: Path, port: int) -> "subprocess.Popen[bytes]":
    """DCMTK's receiver."""
    return subprocess.Popen(["storescp", "--fork", "-od", str(at), str(port)])


def main() -> None:
    """Measure in turns, and print one JSON document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "files").mkdir()
        folders = make_files(root / "files", options.images)
        total = SENDERS * options.images
        rows = []
        for number in range(options.rounds):
            theirs, _ = measure(storescp, folders, root / "storescp")
            shutil.rmtree(root / "storescp")
            ours, memory = measure(worker, folders, root / "home")
            database = Database(f"sqlite:///{root / 'home' / 'screening.sqlite'}")
            account = reconcile(database, FolderStore(root / "home" / "store"))
            database.close()
            assert account.holds, account
            assert account.files == {"accepted": total}, account
            shutil.rmtree(root / "home")
            rows.append({"storescp_s": theirs, "receive_s": ours, "share": theirs / ours, "rss_mib": memory})
            print(json.dumps({"round": number, **rows[-1]}), flush=True)  # noqa: T201 the output of a benchmark
        shares = sorted(row["share"] for row in rows)
        print(json.dumps({"images": total, "share_median": shares[len(shares) // 2], "rounds": rows}))  # noqa: T201


if __name__ == "__main__":
    main()
