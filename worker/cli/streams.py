"""Makes standard input, output and error usable, also as cron or a closed terminal leaves them. Prints nothing."""

import os
import sys
from contextlib import suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: The names of the streams, as Python calls them, and their numbers.
_OUTPUTS = {"<stdout>": 1, "<stderr>": 2}


class _Output(FileIO):
    """Standard output or error. An error while it is written has the name of the stream as its `filename`."""

    def __init__(self, name: str) -> None:
        super().__init__(_OUTPUTS[name], "w", closefd=False)
        self.name = name

    def seekable(self) -> bool:
        """False: some devices claim to be seekable and are not."""
        return False

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write bytes; an error names the stream."""
        try:
            return super().write(data)
        except OSError as error:
            error.filename = self.name
            raise


def make_usable() -> None:
    """Open closed streams on the null device, and print characters that the locale's encoding lacks as codes.

    Without that, the next file that is opened, such as one of the store, would get the number of the closed stream, and
    libraries would print their warnings into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    sys.stdout, sys.stderr = _named(sys.stdout, "<stdout>"), _named(sys.stderr, "<stderr>")


def is_fault_of_output(error: OSError) -> bool:
    """Whether standard output or error could not be written: a full disk, a closed terminal, a pipe without reader."""
    return error.filename in _OUTPUTS


def give_up(error: OSError) -> None:
    """Send the stream that failed to the null device: else its buffer would fail again when the program ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _OUTPUTS[error.filename])
    os.close(null)


def _named(stream: TextIO, name: str) -> TextIO:
    """The stream with errors that have its name. One that is no file, as in a test or a notebook, is returned as is."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # `python -u` buffers nothing
    if not isinstance(stream, TextIOWrapper) or type(raw) is not FileIO or raw.fileno() != _OUTPUTS[name]:
        return stream
    with suppress(OSError):  # nothing was printed yet, or it could not be
        stream.flush()
    output = _Output(name)
    return TextIOWrapper(
        output if buffer is raw else BufferedWriter(output), stream.encoding, "backslashreplace",
        line_buffering=stream.line_buffering, write_through=stream.write_through,
    )  # fmt: skip
