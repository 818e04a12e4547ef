"""The decoder child: decodes compressed pixels in a process of its own, with bounded memory and nothing to lose.

Compiled codecs crash, hang and grow on damaged files. `decoder` starts this program, talks to it over its
standard input and output, and starts it again when it has died. No answer is ever unpickled.
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

from worker.errors import DecoderOutOfMemory, Rejected, place_of
from worker.imaging.limits import Limits
from worker.imaging.resolution import Enough
from worker.runtime.parent_death import die_with_parent

#: Bytes of the words, which are JSON, and of what follows them.
HEAD = struct.Struct(">IQ")

#: Words longer than this are none of ours.
MAX_WORDS = 2**20


class Wanted(StrEnum):
    """What a request asks for."""

    DISPLAY = "display"  #: notes and shape, followed by display values
    STORED_DIGEST = "stored_digest"  #: SHA-256 over the stored values


#: The bytes of a file, the limits, how much of the picture is enough -> words of the answer, and what follows them.
Reader = Callable[[bytes, Limits, Enough | None], tuple[dict[str, Any], Any]]


def write_message(pipe: IO[bytes], words: dict[str, Any], payload: Any = b"") -> None:
    """Send words and bytes (anything with a buffer)."""
    spelled = json.dumps(words).encode()
    pipe.write(HEAD.pack(len(spelled), memoryview(payload).nbytes) + spelled)
    pipe.write(payload)
    pipe.flush()


def read_words(pipe: IO[bytes]) -> tuple[dict[str, Any], int]:
    """Receive words and the number of bytes that follow them; raises EOFError, ValueError when it is none of ours."""
    head = pipe.read(HEAD.size)
    if len(head) < HEAD.size:
        raise EOFError
    length, following = HEAD.unpack(head)
    if length > MAX_WORDS:
        raise ValueError("no message of ours")
    words = json.loads(pipe.read(length))
    if not isinstance(words, dict):
        raise ValueError("no message of ours")
    return words, following


def serve(requests: IO[bytes], answers: IO[bytes], readers: Mapping[str, Reader]) -> None:
    """Answer requests until there are no more. Whatever is no Rejected ends the process: its parent starts another."""
    write_message(answers, {"is_ready": True})
    while True:
        try:
            words, size = read_words(requests)
        except EOFError:
            return
        content = requests.read(size)
        limits = Limits(max_pixel_bytes=words["max_pixel_bytes"])
        enough = None if words["enough"] is None else Enough.from_json(words["enough"])
        try:
            answer, payload = readers[words["wanted"]](content, limits, enough)
        except MemoryError:
            answer, payload = {"code": DecoderOutOfMemory.code}, b""
        except Rejected as error:
            answer, payload = {"code": error.code, "message": error.message}, b""
        write_message(answers, answer, payload)


def run(load: Callable[[], Mapping[str, Reader]]) -> None:
    """Be the child of `decoder`: memory bounded by the first argument, in MiB, before anything is loaded."""
    die_with_parent()
    bound = int(sys.argv[1]) * 2**20
    with contextlib.suppress(ValueError, OSError):  # macOS knows the limit and does not take it
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold a patient
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a codec prints is no answer

    def tell(_: object, error: BaseException, __: object) -> None:
        write_message(answers, {"crashed": place_of(error)})

    sys.excepthook = tell
    serve(sys.stdin.buffer, answers, load())


def real_readers() -> Mapping[str, Reader]:
    """The eyes, loaded here and not in whoever only speaks to us."""
    import cv2

    from worker.imaging.reading import read_display, stored_digest

    cv2.setNumThreads(1)

    def display(content: bytes, limits: Limits, enough: Enough | None) -> tuple[dict[str, Any], Any]:
        shown = read_display(content, limits, enough)
        return {"notes": shown.notes, "shape": shown.pixels.shape}, shown.pixels

    def digest(content: bytes, limits: Limits, _: Enough | None) -> tuple[dict[str, Any], Any]:
        return {"digest": stored_digest(content, limits)}, b""

    return {Wanted.DISPLAY: display, Wanted.STORED_DIGEST: digest}


if __name__ == "__main__":
    run(real_readers)
