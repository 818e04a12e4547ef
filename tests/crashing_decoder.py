"""A decoder child with a codec that fails as compiled codecs do, on files that ask for it; else the real one.

A file asks by holding one of the words of `FAILURES`, for instance in its Image Comments.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from worker.decoding.child import Reader, real_readers, run
from worker.imaging.codec.resolution import Reduction
from worker.imaging.limits import Limits

#: The command that `worker.decoding.decoder.Decoder` takes in place of its own.
PROGRAM = (sys.executable, "-m", "tests.crashing_decoder")


def _crash(_: bytes) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _crash_once(content: bytes) -> None:
    """Kill this process, and leave the file whose name follows the word, so that it happens once."""
    mark = Path(content.split(b"CODEC-CRASH-ONCE ")[1].split(b" ")[0].decode())
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _hang(_: bytes) -> None:
    while True:
        signal.pause()


def _grow(_: bytes) -> None:
    np.zeros(8 << 30, np.uint8)


def _stumble(content: bytes) -> None:
    raise LookupError(content)


def _meet(content: bytes) -> None:
    """Wait in the folder whose name follows the word until a second image is decoded at the same time."""
    folder = Path(content.split(b"CODEC-MEET ")[1].split(b" ")[0].decode())
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)


def _print(_: bytes) -> None:
    os.write(1, b"codec: this stands on standard output")


FAILURES: dict[bytes, Callable[[bytes], None]] = {
    b"CODEC-CRASH ": _crash,
    b"CODEC-CRASH-ONCE ": _crash_once,
    b"CODEC-HANG ": _hang,
    b"CODEC-GROW ": _grow,
    b"CODEC-STUMBLE ": _stumble,
    b"CODEC-MEET ": _meet,
    b"CODEC-PRINT ": _print,
}


def _frail(reader: Reader) -> Reader:
    def read(content: bytes, limits: Limits, reduction: Reduction | None) -> tuple[dict[str, Any], Any]:
        for word, fail in FAILURES.items():
            if word in content:
                fail(content)
        answer, payload = reader(content, limits, reduction)
        return answer, b"" if b"CODEC-LIE " in content else payload

    return read


def frail_readers() -> dict[str, Reader]:
    """The real ones, each behind a codec that may fail."""
    return {wanted: _frail(reader) for wanted, reader in real_readers().items()}


if __name__ == "__main__":
    run(frail_readers)
