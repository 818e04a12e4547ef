"""How fast `worker receive` takes images, beside DCMTK's `storescp --fork`, in turns on the same files, without
and with TLS: python -m tests.benchmarks.receiver --images 60 --rounds 3 --write

Eight `storescu` at once under two calling titles. `storescp` neither hashes nor books. What a receiver has stored is
removed after its turn; 60 images need 16 GB of disk. `--write` keeps the numbers as results/receiver.json. Needs DCMTK.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schema.database import Database
from tests.benchmarks.machine import Watch, machine
from tests.certificates import certificate
from tests.phantoms import dicom_file
from worker.monitoring.reconciliation import reconcile
from worker.store.folder import FolderStore

RESULT = Path(__file__).parent / "results" / "receiver.json"

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


@dataclass(frozen=True)
class Tls:
    """Certificate and key of a receiver; a sender trusts the certificate and shows none."""

    certificate: Path
    key: Path


def send(port: int, folders: list[Path], tls: Tls | None) -> float:
    """Seconds until all senders are done; each must end well."""
    security = ["+tla", "+cf", str(tls.certificate)] if tls else []
    began = time.monotonic()
    running = [
        subprocess.Popen(
            ["storescu", *security, "-aet", TITLES[at % 2], "-aec", "CHESTSCREENING", "+sd", "-R", "127.0.0.1",
             str(port), str(own)],
        )
        for at, own in enumerate(folders)
    ]  # fmt: skip
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


Start = Callable[[Path, int, Tls | None], "subprocess.Popen[bytes]"]


def measure(start: Start, folders: list[Path], at: Path, tls: Tls | None) -> tuple[float, float]:
    """(seconds, largest resident memory in MiB) of one round into an empty folder."""
    at.mkdir()
    port = free_port()
    process = start(at, port, tls)
    stop, found = threading.Event(), [0.0]
    watching = threading.Thread(target=largest_mib, args=[process.pid, stop, "Rss:", found])
    try:
        await_port(port)
        watching.start()
        took = send(port, folders, tls)
    finally:
        stop.set()
        process.send_signal(signal.SIGTERM)
        process.wait(40)
    watching.join()
    return took, found[0]


def worker(at: Path, port: int, tls: Tls | None) -> "subprocess.Popen[bytes]":
    """`worker receive` on an empty state folder."""
    files = (
        {"SCREENING_RECEIVE_TLS_CERTIFICATE": str(tls.certificate), "SCREENING_RECEIVE_TLS_KEY": str(tls.key)}
        if tls
        else {}
    )
    environment = {
        **os.environ, "SCREENING_HOME": str(at), "SCREENING_RECEIVE_PORT": str(port),
        "SCREENING_RECEIVE_FROM": ",".join(TITLES), "SCREENING_RECEIVE_METRICS_PORT": "0",
        "SCREENING_MIN_FREE_MIB": "1", **files,
    }  # fmt: skip
    return subprocess.Popen([sys.executable, "-m", "worker", "receive"], env=environment, stderr=subprocess.DEVNULL)


def storescp(at: Path, port: int, tls: Tls | None) -> "subprocess.Popen[bytes]":
    """DCMTK's receiver."""
    security = ["+tls", str(tls.key), str(tls.certificate), "-ic"] if tls else []
    return subprocess.Popen(["storescp", *security, "--fork", "-od", str(at), str(port)])


def one_round(folders: list[Path], root: Path, total: int, tls: Tls | None) -> dict[str, float]:
    """Both receivers in turn. What was answered with success to ours is in the ledger, and the ledger holds."""
    theirs_s, _ = measure(storescp, folders, root / "storescp", tls)
    assert sum(1 for _ in (root / "storescp").iterdir()) == total
    shutil.rmtree(root / "storescp")
    ours_s, rss_mib = measure(worker, folders, root / "home", tls)
    database = Database(f"sqlite:///{root / 'home' / 'screening.sqlite'}")
    account = reconcile(database, FolderStore(root / "home" / "store"))
    database.close()
    assert account.holds, account
    assert account.files == {"accepted": total}, account
    shutil.rmtree(root / "home")
    return {
        "storescp_s": round(theirs_s, 2), "receive_s": round(ours_s, 2), "share": round(theirs_s / ours_s, 3),
        "rss_mib": round(rss_mib, 1),
    }  # fmt: skip


def main() -> None:
    """Measure in turns, and print one JSON document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=60, help="of each sender")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "files").mkdir()
        folders = make_files(root / "files", options.images)
        rounds: dict[str, list[dict[str, float]]] = {"plain": [], "tls": []}
        for _ in range(options.rounds):
            for name, tls in (("plain", None), ("tls", Tls(*certificate(root, "receiver")))):
                rounds[name].append(one_round(folders, root, SENDERS * options.images, tls))
                print(json.dumps({name: rounds[name][-1]}), file=sys.stderr, flush=True)  # noqa: T201 for who waits
        image_mb = round((folders[0] / "0.dcm").stat().st_size / 1e6, 1)
    found = {
        name: {
            "share_median": statistics.median(row["share"] for row in rows),
            "rss_mib_largest": max(row["rss_mib"] for row in rows),
            "rounds": rows,
        }
        for name, rows in rounds.items()
    }
    about = {"senders": SENDERS, "images_of_each": options.images, "image_mb": image_mb, "reconciled": "each round"}
    at = machine(watch.share_taken_by_others(), ["pynetdicom", "pydicom"])
    document = json.dumps({"machine": at, **about, **found}, indent=1)
    print(document)  # noqa: T201 the output of a benchmark
    if options.write:
        RESULT.write_text(document + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
