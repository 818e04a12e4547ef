"""Whether `worker receive` stays as it is over many associations: threads, sockets and memory, without and with TLS:
python -m tests.benchmarks.associations --count 10000 --write

Each association is accepted and released by a plain client; every hundredth sends one small image. `--write` keeps the
numbers as results/associations.json.
"""

import argparse
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.benchmarks.receiver import await_port, free_port
from tests.certificates import certificate
from tests.dicom_peers import association_request, client_context, command_set, p_data
from tests.phantoms import DX_FOR_PRESENTATION, EXPLICIT_LITTLE
from tests.receiver import CALLER, data_set_of, pdu, radiograph

RESULT = Path(__file__).parent / "results" / "associations.json"

#: Associations before the first look: what is loaded and allocated once is there by then.
WARM_UP = 100

ACCEPTED, DATA, RELEASED = 2, 4, 6


def look(pid: int) -> dict[str, float]:
    """Threads, open sockets and resident memory of a process now."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in status)}
    links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    sockets = sum(link.startswith("socket:") for link in links)
    return {"threads": int(fields["Threads"][0]), "sockets": sockets, "rss_mib": int(fields["VmRSS"][0]) / 1024}


def receive_pdu(plain: socket.socket) -> int:
    """The type of the next PDU."""
    head = _exactly(plain, 6)
    _exactly(plain, struct.unpack(">L", head[2:])[0])
    return head[0]


def _exactly(plain: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = plain.recv(count - len(found))
        assert piece, "the receiver has closed the connection"
        found += piece
    return found


def associate_once(port: int, tls: ssl.SSLContext | None, image: bytes | None) -> None:
    """One association, with an image or without."""
    plain: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
    if tls is not None:
        plain = tls.wrap_socket(plain, server_hostname="127.0.0.1")
    with closing(plain):
        plain.sendall(association_request(CALLER, contexts={1: (DX_FOR_PRESENTATION, EXPLICIT_LITTLE)}))
        assert receive_pdu(plain) == ACCEPTED
        if image is not None:
            plain.sendall(image)
            assert receive_pdu(plain) == DATA
        plain.sendall(pdu(5, b"\0" * 4))
        assert receive_pdu(plain) == RELEASED


def run(count: int, tls: ssl.SSLContext | None, settings: dict[str, str], home: Path) -> dict[str, Any]:
    """The numbers of one receiver, ten times over its associations."""
    port = free_port()
    environment = {
        **os.environ, "SCREENING_HOME": str(home), "SCREENING_RECEIVE_PORT": str(port), "SCREENING_MIN_FREE_MIB": "1",
        "SCREENING_RECEIVE_FROM": CALLER, "SCREENING_RECEIVE_METRICS_PORT": "0", **settings,
    }  # fmt: skip
    command = [sys.executable, "-m", "worker", "receive"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    uid = str(radiograph().SOPInstanceUID)
    image = p_data(1, 3, command_set(uid)) + p_data(1, 2, data_set_of(radiograph()))
    looks: list[dict[str, float]] = []
    try:
        await_port(port)
        began = time.monotonic()
        for number in range(WARM_UP + count):
            if number >= WARM_UP and (number - WARM_UP) % (count // 10) == 0:
                looks.append(look(process.pid))
            associate_once(port, tls, image if number % 100 == 0 else None)
        took_s = time.monotonic() - began
        time.sleep(2.0)  # the last one's threads
        looks.append(look(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        ended = process.wait(60)
    return {"associations": count, "seconds": round(took_s, 1), "exit_code": ended, "looks": looks}


def main() -> None:
    """Without TLS, then with it; prints one JSON document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        file, key = certificate(root, "receiver")
        files = {"SCREENING_RECEIVE_TLS_CERTIFICATE": str(file), "SCREENING_RECEIVE_TLS_KEY": str(key)}
        found = {
            "plain": run(options.count, None, {}, root / "plain"),
            "tls": run(options.count, client_context(file), files, root / "tls"),
        }
    document = json.dumps({"cores": os.cpu_count(), "load_1_min": os.getloadavg()[0], **found}, indent=1)
    print(document)  # noqa: T201 the output of a benchmark
    if options.write:
        RESULT.write_text(document + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
