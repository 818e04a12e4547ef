"""Compressed pixels are decoded in a child process: with the same result, and a crash of the child is survived."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests import crashing_decoder
from tests.phantoms import JPEG_LS, LOSSLESS_ENCODERS, LOSSY_ENCODERS, declare_syntax, dicom_file, picture
from worker.decoding.decoder import Decoder
from worker.errors import (
    DecoderCrashed,
    DecoderOutOfMemory,
    DecoderTimedOut,
    DecoderUnavailable,
    MissingElement,
    Undecodable,
)
from worker.imaging.display.pipeline import Display
from worker.imaging.image_file import open_image, read_display, read_instance, stored_digest
from worker.imaging.limits import DEFAULT

SAMPLES = Path(__file__).parents[1] / "data" / "inbox"
COMPRESSED = {
    **{uid: dicom_file(picture(bits=8), uid) for uid in (*LOSSLESS_ENCODERS, *LOSSY_ENCODERS)},
    "says native": declare_syntax(dicom_file(picture(), JPEG_LS, bits=12), "1.2.840.10008.1.2.1"),
    **{name: (SAMPLES / name).read_bytes() for name in ("ida_8_bit.png", "mia_224.jpeg")},
}
GOOD = COMPRESSED[JPEG_LS]


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with closing(Decoder()) as decoder:
        yield decoder


@pytest.fixture(scope="module")
def frail() -> Iterator[Decoder]:
    with closing(Decoder(memory_mib=2048, program=crashing_decoder.PROGRAM)) as decoder:
        yield decoder


def test_a_child_outlives_the_thread_that_started_it() -> None:
    """The page answers on threads that end when they are idle."""
    with closing(Decoder()) as decoder:
        first = threading.Thread(target=shown_by, args=(decoder, GOOD))
        first.start()
        first.join()
        started = decoder._child
        assert started is not None
        shown_by(decoder, GOOD)
        assert decoder._child is started


def asking_for(failure: str) -> bytes:
    return dicom_file(picture(bits=8), JPEG_LS, ImageComments=f"CODEC-{failure} DOE^JOHN")


def shown_by(decoder: Decoder, data: bytes) -> Display:
    return decoder.read_display(open_image(data))


@pytest.mark.parametrize("kind", COMPRESSED)
def test_the_child_sees_what_we_would_see(decoder: Decoder, kind: str) -> None:
    data = COMPRESSED[kind]
    assert read_instance(data).is_compressed
    here, there = read_display(data), shown_by(decoder, data)
    assert np.array_equal(there.pixels, here.pixels)
    assert there.notes == here.notes
    assert decoder.stored_digest(data, DEFAULT) == stored_digest(data)


def test_uncompressed_pixels_need_no_child() -> None:
    without_child = Decoder(program=("no such program",))
    data = dicom_file(picture(), bits=12)
    assert np.array_equal(shown_by(without_child, data).pixels, read_display(data).pixels)
    assert without_child.stored_digest(data, DEFAULT) == stored_digest(data)


@pytest.mark.parametrize("rows", [b"\0\0", b"\xff\xff"])
def test_an_image_of_no_size_is_refused_as_it_is_here(decoder: Decoder, rows: bytes) -> None:
    data = GOOD.replace(b"\x28\x00\x10\x00US\x02\x00\x30\x00", b"\x28\x00\x10\x00SS\x02\x00" + rows)
    assert read_instance(data).rows <= 0
    with pytest.raises(MissingElement, match="Rows"):
        shown_by(decoder, data)


def test_a_refusal_comes_back_with_its_code_and_its_words(decoder: Decoder) -> None:
    frame = LOSSLESS_ENCODERS[JPEG_LS](picture(bits=8), 8)
    data = dicom_file(picture(bits=8), JPEG_LS, frame=frame[: len(frame) // 2] + b"\xff\xd9")
    with pytest.raises(Undecodable) as here:
        read_display(data)
    with pytest.raises(Undecodable) as there:
        shown_by(decoder, data)
    assert there.value.message == here.value.message
    assert shown_by(decoder, GOOD).pixels.any()


@pytest.mark.parametrize(
    ("failure", "error", "word"),
    [
        ("CRASH", DecoderCrashed, "signal 11"),
        ("STUMBLE", DecoderCrashed, r"LookupError at crashing_decoder.py:\d+"),
        ("LIE", DecoderCrashed, "another size"),
        ("GROW", DecoderOutOfMemory, "SCREENING_DECODER_MEMORY_MIB"),
    ],
)
def test_what_fails_in_the_child_refuses_one_image_and_no_other(
    frail: Decoder, failure: str, error: type[Exception], word: str
) -> None:
    with pytest.raises(error, match=word) as caught:
        shown_by(frail, asking_for(failure))
    assert "DOE" not in str(caught.value)
    assert np.array_equal(shown_by(frail, GOOD).pixels, read_display(GOOD).pixels)


def test_a_digest_is_refused_likewise(frail: Decoder) -> None:
    with pytest.raises(DecoderCrashed, match="signal 11"):
        frail.stored_digest(asking_for("CRASH"), DEFAULT)


def test_a_child_that_hangs_is_stopped_at_the_deadline() -> None:
    with closing(Decoder(deadline_s=1.0, program=crashing_decoder.PROGRAM)) as impatient:
        with pytest.raises(DecoderTimedOut, match="SCREENING_DECODER_DEADLINE_S"):
            shown_by(impatient, asking_for("HANG"))
        impatient.deadline_s = 60.0
        assert shown_by(impatient, GOOD).pixels.any()


class Stop(BaseException):
    """A worker is told to stop."""


def test_an_answer_that_nobody_waited_for_never_meets_another_image(frail: Decoder) -> None:
    def interrupt(*_: object) -> None:
        raise Stop

    frail.prove()
    before = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGUSR1])
    timer.start()
    try:
        with pytest.raises(Stop):
            shown_by(frail, asking_for("HANG"))
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert np.array_equal(shown_by(frail, GOOD).pixels, read_display(GOOD).pixels)


def test_a_child_that_was_killed_from_outside_costs_no_image(frail: Decoder, tmp_path: Path) -> None:
    data = dicom_file(picture(bits=8), JPEG_LS, ImageComments=f"CODEC-CRASH-ONCE {tmp_path / 'died'} ")
    assert np.array_equal(shown_by(frail, data).pixels, read_display(data).pixels)
    assert (tmp_path / "died").exists()


def test_what_a_codec_prints_is_no_answer(frail: Decoder) -> None:
    assert np.array_equal(shown_by(frail, asking_for("PRINT")).pixels, read_display(GOOD).pixels)


@pytest.mark.parametrize("program", [("/no/such/program",), ("/bin/false",), ("/bin/echo",)])
def test_a_child_that_cannot_be_had_is_no_fault_of_the_image(program: tuple[str, ...]) -> None:
    with pytest.raises(DecoderUnavailable, match=r"cannot be started|does not start"):
        shown_by(Decoder(program=program), GOOD)


def test_too_little_memory_for_its_libraries_is_told_before_an_image_comes() -> None:
    with pytest.raises(DecoderUnavailable, match="SCREENING_DECODER_MEMORY_MIB"):
        Decoder(memory_mib=20).prove()


def test_nothing_is_left_of_a_decoder_that_nobody_holds() -> None:
    before = children()
    decoder = Decoder()
    decoder.prove()
    assert len(children() - before) == 1
    del decoder
    assert children() == before


def children() -> set[int]:
    """Our living children that decode. Threads and processes may end while we look."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"worker.decoding.child" in (stat.parent / "cmdline").read_bytes():
                found.add(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
