"""Decodes compressed pixels in a child process with a deadline and bounded memory: a crash ends only the child.

Uncompressed pixels need no codec and are read here. The child is started once, and again whenever it is lost. An image
that lost the child is tried once more in a new child, because something else may have killed the first one.
The child is a program of its own and no fork: a fork beside threads may hang, and a bound on its address space would
count what CUDA reserved in the worker.
"""

import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import numpy as np

from worker.decoding.child import RequestKind, read_words, write_message
from worker.decoding.lasting_thread import on_lasting_thread
from worker.errors import (
    DecoderCrashed,
    DecoderOutOfMemory,
    DecoderTimedOut,
    DecoderUnavailable,
    Rejected,
    Undecodable,
)
from worker.imaging import image_file
from worker.imaging.codec.resolution import Reduction
from worker.imaging.display.pipeline import Codes, Display, StoredValues
from worker.imaging.image_file import OpenImage
from worker.imaging.limits import Limits
from worker.imaging.viewer_data import read_stored
from worker.settings import DECODER_DEADLINE_S, DECODER_MEMORY_MIB, Settings

log = logging.getLogger(__name__)

#: The program of the child; its one argument is added.
PROGRAM = (sys.executable, "-m", "worker.decoding.child")

#: How long the child may take to load its libraries.
START_DEADLINE_S = 60.0

_BY_CODE = {kind.code: kind for kind in Rejected.__subclasses__()}

Shape = tuple[int, int]

#: The JSON of the child's answer, and the picture that followed it; an empty array when none did.
Answer = tuple[dict[str, Any], Codes]

T = TypeVar("T")


class _ChildLost(Exception):
    """The child has ended, or does not follow the protocol; the message says how."""


class Decoder:
    """Owns a decoder child and sends it images. Safe to share between threads; it decodes one image at a time."""

    def __init__(
        self,
        deadline_s: float = DECODER_DEADLINE_S,
        memory_mib: int = DECODER_MEMORY_MIB,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.deadline_s, self.memory_mib, self.program = deadline_s, memory_mib, tuple(program)
        self._lock = threading.Lock()
        self._child: _Child | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """A decoder with the limits of the settings."""
        return cls(settings.decoder_deadline_s, settings.decoder_memory_mib)

    def start(self) -> None:
        """Start the child without waiting for it; otherwise the first image starts it."""
        with self._lock:
            self._child = self._child or self._spawn()

    def prove(self) -> None:
        """Start the child and wait until it answers; raises DecoderUnavailable."""
        with self._lock:
            self._ready()

    def close(self, within_s: float = -1.0) -> None:
        """End the child; the next image would start another.

        An image that is being decoded is waited for, at most `within_s` where given: then its child goes on.
        """
        if self._lock.acquire(timeout=within_s):
            try:
                self._drop()
            finally:
                self._lock.release()

    def read_display(self, image: OpenImage, reduction: Reduction | None = None) -> Display:
        """Display values; at a lower resolution if the file offers one of the minimum size, or at that of a pyramid.

        Raises any Rejected, including those for a lost decoder, and DecoderUnavailable.
        """
        header = image.instance
        if not header.is_compressed:
            return image.display(reduction)
        most = (max(0, header.rows), max(0, header.columns))
        answer, pixels = self._ask(RequestKind.DISPLAY, image.content, image.limits, most, reduction)
        return Display(np.asarray(pixels, np.uint8), tuple(map(str, answer["notes"])))

    def read_stored(self, image: OpenImage) -> StoredValues:
        """Stored values, colour as grey. Raises what `read_display` raises."""
        header = image.instance
        if not header.is_compressed:
            return read_stored(image.content, image.limits)
        most = (max(0, header.rows), max(0, header.columns))
        answer, codes = self._ask(RequestKind.STORED, image.content, image.limits, most)
        return StoredValues(codes, min(int(answer["bits"]), 8 * codes.dtype.itemsize), bool(answer["is_signed"]))

    def stored_digest(self, content: bytes, limits: Limits) -> str:
        """SHA-256 over the stored values. Raises what `read_display` raises."""
        if not image_file.read_instance(content, limits).is_compressed:
            return image_file.stored_digest(content, limits)
        return str(self._ask(RequestKind.STORED_DIGEST, content, limits, (0, 0))[0]["digest"])

    def _ask(
        self, wanted: RequestKind, content: bytes, limits: Limits, most: Shape, reduction: Reduction | None = None
    ) -> Answer:
        """The answer's JSON and its picture, which may be at most of the shape `most`."""
        words = {
            "wanted": wanted,
            "max_pixel_bytes": limits.max_pixel_bytes,
            "enough": None if reduction is None else reduction.to_json(),
        }
        with self._lock:
            try:
                return self._try(words, content, most)
            except (DecoderCrashed, DecoderOutOfMemory) as error:
                log.warning("decoder_lost", extra={"code": error.code, "reason": error.message})
                return self._try(words, content, most)  # in a new child, whose memory is empty

    def _try(self, words: dict[str, Any], content: bytes, most: Shape) -> Answer:
        child, has_answered = self._ready(), False
        try:
            answer, pixels = child.within(self.deadline_s, lambda: child.exchange(words, content, most))
            has_answered = True
        except TimeoutError as error:
            raise DecoderTimedOut(
                f"decoding took longer than {self.deadline_s:g} s and was stopped: send the image uncompressed,"
                " or raise SCREENING_DECODER_DEADLINE_S"
            ) from error
        except _ChildLost as lost:
            raise DecoderCrashed(f"the decoder failed on it ({lost}): send the image uncompressed") from lost
        finally:
            if not has_answered:  # also after a signal: its answer must not be taken for that to another image
                self._drop()
        if answer.get("code") == DecoderOutOfMemory.code:
            self._drop()  # its memory is full
            raise DecoderOutOfMemory(
                f"decoding needs more than {self.memory_mib:,} MiB: send the image uncompressed, or raise"
                " SCREENING_DECODER_MEMORY_MIB"
            )
        if "code" in answer:
            raise _BY_CODE.get(answer["code"], Undecodable)(str(answer["message"]))
        return answer, pixels

    def _ready(self) -> "_Child":
        """The child, ready to answer; raises DecoderUnavailable when it does not start."""
        child = self._child = self._child or self._spawn()
        if child.is_ready:
            return child
        try:
            child.within(START_DEADLINE_S, child.greet)
        except (TimeoutError, _ChildLost) as error:
            self._drop()
            raise DecoderUnavailable(
                f"the decoder child does not start ({error}): give it memory (SCREENING_DECODER_MEMORY_MIB is"
                f" {self.memory_mib}), or see what `{' '.join(self.program)} {self.memory_mib}` says"
            ) from None
        return child

    def _spawn(self) -> "_Child":
        try:
            child = on_lasting_thread(lambda: _Child([*self.program, str(self.memory_mib)]))
        except OSError as error:
            raise DecoderUnavailable(f"the decoder child cannot be started ({error.strerror})") from error
        self._finalizer = weakref.finalize(self, child.end)
        return child

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            self._finalizer.detach()
            child.end()


class _Child:
    """One child process: a pipe in, a pipe out."""

    def __init__(self, command: Sequence[str]) -> None:
        self.is_ready = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # codecs quote file content
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each thread would reserve address space
            start_new_session=True,  # so that Ctrl-C reaches only the parent
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def greet(self) -> None:
        """Wait for the first message."""
        self._answer()
        self.is_ready = True

    def exchange(self, words: dict[str, Any], content: bytes, most: Shape) -> Answer:
        """Send a request and receive its answer; the picture that follows may be at most as large as `most`."""
        write_message(self._requests, words, content)
        answer, following = self._answer()
        rows, columns = (int(side) for side in answer.get("shape", (0, 0)))
        kind = np.dtype(np.uint16 if answer.get("itemsize") == 2 else np.uint8)
        size = rows * columns * kind.itemsize
        if not (0 <= rows <= most[0] and 0 <= columns <= most[1] and following == size):
            raise _ChildLost("its answer has another size than the image")
        pixels: Codes = np.empty((rows, columns), kind)
        if following and self._answers.readinto(pixels.reshape(-1).view(np.uint8)) != following:  # type: ignore[attr-defined]
            raise EOFError
        return answer, pixels

    def within(self, seconds: float, talk: Callable[[], T]) -> T:
        """The result of `talk`; raises TimeoutError when it takes longer (the child is then killed), and _ChildLost."""
        expired = threading.Event()

        def stop() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            return talk()
        except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
            if expired.is_set():
                raise TimeoutError(f"no answer in {seconds:g} s") from error
            raise _ChildLost(self._exit_reason()) from error
        finally:
            timer.cancel()

    def end(self) -> None:
        """Kill the child and close its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._requests, self._answers):
            try:
                pipe.close()
            except OSError:  # unsent bytes are not needed
                continue

    def _answer(self) -> tuple[dict[str, Any], int]:
        answer, following = read_words(self._answers)
        if "crashed" in answer:
            raise _ChildLost(str(answer["crashed"]))
        return answer, following

    def _exit_reason(self) -> str:
        self._process.kill()
        code = self._process.wait()
        return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
