"""The decoder child: decodes compressed pixels in its own process with bounded memory.

Damaged files make compiled codecs crash, hang or use much memory. `decoder` starts this program, talks to it over its
standard input and output, and starts it again when it has died. Answers are never unpickled.
"""

import contextlib
import json
import os
import resource
import struct
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import IO, Any

from worker.errors import DecoderOutOfMemory, Rejected
from worker.imaging.codec.resolution import Reduction, reduction_of
from worker.imaging.limits import Limits
from worker.runtime.error_place import place_of
from worker.runtime.parent_death import die_with_parent

#: Head of a message: length of its JSON, and length of the bytes that follow, its payload.
HEAD = struct.Struct(">IQ")

#: Longest JSON that is accepted.
MAX_WORDS = 2**20


class RequestKind(StrEnum):
    """The kind of a request."""

    DISPLAY = "display"  #: notes and shape, followed by display values
    STORED = "stored"  #: bits, sign and shape, followed by stored values (colour as grey)
    STORED_DIGEST = "stored_digest"  #: SHA-256 over the stored values


#: (bytes of a file, limits, at which resolution) -> (JSON of the answer, its payload).
Reader = Callable[[bytes, Limits, Reduction | None], tuple[dict[str, Any], Any]]


def write_message(pipe: IO[bytes], words: dict[str, Any], payload: Any = b"") -> None:
    """Send `words` as JSON, then the payload (anything with a buffer)."""
    encoded = json.dumps(words).encode()
    pipe.write(HEAD.pack(len(encoded), memoryview(payload).nbytes) + encoded)
    pipe.write(payload)
    pipe.flush()


def read_words(pipe: IO[bytes]) -> tuple[dict[str, Any], int]:
    """Receive the JSON of a message and the length of its payload; raises EOFError, and ValueError when invalid."""
    head = pipe.read(HEAD.size)
    if len(head) < HEAD.size:
        raise EOFError
    length, following = HEAD.unpack(head)
    if length > MAX_WORDS:
        raise ValueError("not a message of this protocol")
    words = json.loads(pipe.read(length))
    if not isinstance(words, dict):
        raise ValueError("not a message of this protocol")
    return words, following


def serve(requests: IO[bytes], answers: IO[bytes], readers: Mapping[str, Reader]) -> None:
    """Answer requests until there are no more. An error other than Rejected ends the process; the parent starts a new
    one."""
    write_message(answers, {"is_ready": True})
    while True:
        try:
            words, size = read_words(requests)
        except EOFError:
            return
        content = requests.read(size)
        limits = Limits(max_pixel_bytes=words["max_pixel_bytes"])
        reduction = None if words["enough"] is None else reduction_of(words["enough"])
        try:
            answer, payload = readers[words["wanted"]](content, limits, reduction)
        except MemoryError:
            answer, payload = {"code": DecoderOutOfMemory.code}, b""
        except Rejected as error:
            answer, payload = {"code": error.code, "message": error.message}, b""
        write_message(answers, answer, payload)


def run(load: Callable[[], Mapping[str, Reader]]) -> None:
    """Run as the child of `decoder`. The first argument limits the memory, in MiB, before anything is loaded."""
    die_with_parent()
    bound = int(sys.argv[1]) * 2**20
    with contextlib.suppress(ValueError, OSError):  # macOS refuses this limit
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain patient data
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a codec may print to standard output, which carries the answers

    def report_crash(_: object, error: BaseException, __: object) -> None:
        write_message(answers, {"crashed": place_of(error)})

    sys.excepthook = report_crash
    serve(sys.stdin.buffer, answers, load())


def real_readers() -> Mapping[str, Reader]:
    """The readers of imaging; its libraries are loaded here, and not in the parent process."""
    import cv2
    import numpy as np

    from worker.imaging.image_file import read_display, stored_digest
    from worker.imaging.viewer_data import read_stored

    cv2.setNumThreads(1)

    def display(content: bytes, limits: Limits, reduction: Reduction | None) -> tuple[dict[str, Any], Any]:
        shown = read_display(content, limits, reduction)
        return {"notes": shown.notes, "shape": shown.pixels.shape}, shown.pixels

    def stored(content: bytes, limits: Limits, _: Reduction | None) -> tuple[dict[str, Any], Any]:
        values = read_stored(content, limits)
        words = {"bits": values.bits, "is_signed": values.is_signed, "itemsize": values.codes.dtype.itemsize}
        return words | {"shape": values.codes.shape}, np.ascontiguousarray(values.codes)

    def digest(content: bytes, limits: Limits, _: Reduction | None) -> tuple[dict[str, Any], Any]:
        return {"digest": stored_digest(content, limits)}, b""

    return {RequestKind.DISPLAY: display, RequestKind.STORED: stored, RequestKind.STORED_DIGEST: digest}


if __name__ == "__main__":
    run(real_readers)
