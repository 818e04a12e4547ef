"""Damaged files by number: `damaged(seed, number)` is the same file on every machine, made of a real or synthetic one.

The samples of the inbox, a phantom in every transfer syntax and rasters of several kinds are cut, spliced, overwritten
and relabelled, most under UIDs of their own, some under one that all share.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from tests.phantoms import LOSSLESS, LOSSY_ENCODERS, SOP_INSTANCE_UID, STUDY_UID, declare_syntax, dicom_file, picture

Rng = np.random.Generator
Mutation = Callable[[bytearray, Rng], None]

SAMPLES = Path(__file__).parents[1] / "data" / "inbox"

#: UIDs of a damaged file, in place of those of its base: most files have their own.
ALONE = 0.9

#: Extreme values for a length, a size or a count.
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

#: Elements of group 0028 whose values sizes and depths follow from (PS3.3 C.7.6.3).
PIXEL_ELEMENTS = (
    0x0002, 0x0004, 0x0006, 0x0008, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103, 0x0106, 0x1050, 0x1053,
)  # fmt: skip

NASTY_WORDS = (
    b"../../../etc/passwd", b"%s%n%x", b"'; DROP TABLE study;--", b"\x1b[2J", b"\xff\xfe\xfd", b"\x1b$B", b"\0" * 9,
)  # fmt: skip


@cache
def bases() -> Mapping[str, bytes]:
    """The whole files, by name."""
    found = {path.name: path.read_bytes() for path in sorted(SAMPLES.iterdir())}
    for syntax in (*LOSSLESS, *LOSSY_ENCODERS):
        for bits in (8, 12):
            if bits == 8 or not syntax.endswith(".4.50"):  # JPEG Baseline has 8
                found[f"{syntax}_{bits}.dcm"] = dicom_file(picture(96, 80, bits), syntax, bits=bits)
    grey = picture(120, 90, 8)
    for name, pixels, options in (
        ("colour.jpg", np.dstack([grey, grey[::-1], grey]), ()),
        ("progressive.jpg", grey, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        ("restarts.jpg", grey, (cv2.IMWRITE_JPEG_RST_INTERVAL, 3)),
        ("alpha.png", np.dstack([grey] * 4), ()),
        ("deep.png", picture(120, 90, 16), ()),
    ):
        found[name] = cv2.imencode(Path(name).suffix, pixels, options)[1].tobytes()
    return found


def damaged(seed: int, number: int) -> tuple[str, bytes]:
    """(file name, content) of one damaged file."""
    rng = np.random.default_rng([seed, number])
    name = str(rng.choice(sorted(bases())))
    data = bytearray(bases()[name])
    if rng.random() < ALONE:
        _rename(data, number)
    for _ in range(int(rng.integers(0, 4))):  # some stay whole: they must come through
        MUTATIONS[int(rng.integers(len(MUTATIONS)))](data, rng)
    return f"{number:06}_{name}", bytes(data)


def _rename(data: bytearray, number: int) -> None:
    """Give a DICOM file UIDs of its own, of the same length: the last digits of each become the number."""
    uids = {STUDY_UID.encode(), SOP_INSTANCE_UID.encode(), *re.findall(rb"(?<=UI..)2\.25\.[0-9]{20,}", bytes(data))}
    for uid in uids:
        _replace(data, uid, uid[:-7] + b"%07d" % number if len(uid) > 20 else b"1.%0*d" % (len(uid) - 2, number + 1))


def _replace(data: bytearray, old: bytes, new: bytes) -> None:
    data[:] = data.replace(old, new)


def _place(data: bytearray, rng: Rng, room: int = 1) -> int:
    """An offset; half of them in the first two kilobytes, where headers are."""
    end = max(1, len(data) - room)
    return int(rng.integers(min(end, 2048) if rng.random() < 0.5 else end))


def _span(data: bytearray, rng: Rng) -> slice:
    start = _place(data, rng)
    return slice(start, start + int(2 ** rng.uniform(0, 14)))


def overwrite(data: bytearray, rng: Rng) -> None:
    """Single bytes become others."""
    for _ in range(int(rng.integers(1, 17))):
        if data:
            data[_place(data, rng)] = int(rng.integers(256))


def cut(data: bytearray, rng: Rng) -> None:
    """The end is missing."""
    del data[_place(data, rng) :]


def cut_and_end(data: bytearray, rng: Rng) -> None:
    """The end is missing, and an end marker follows."""
    cut(data, rng)
    data += b"\xff\xd9"


def drop(data: bytearray, rng: Rng) -> None:
    """A piece is missing."""
    del data[_span(data, rng)]


def blank(data: bytearray, rng: Rng) -> None:
    """A piece is zeros."""
    span = _span(data, rng)
    data[span] = bytes(len(data[span]))


def repeat(data: bytearray, rng: Rng) -> None:
    """A piece comes twice."""
    span = _span(data, rng)
    data[span.start : span.start] = data[span]


def splice(data: bytearray, rng: Rng) -> None:
    """A piece of another file is inserted in the middle."""
    other = bytearray(bases()[str(rng.choice(sorted(bases())))])
    data[_span(data, rng)] = other[_span(other, rng)]


def exaggerate(data: bytearray, rng: Rng) -> None:
    """A number somewhere is an extreme one."""
    width = int(rng.choice([2, 4]))
    at = _place(data, rng, width)
    value = int(rng.choice(EXTREMES)) & (1 << 8 * width) - 1
    data[at : at + width] = value.to_bytes(width, "little" if rng.random() < 0.5 else "big")


def resize(data: bytearray, rng: Rng) -> None:
    """Rows, columns, samples, frames or bits are other ones."""
    element = int(rng.choice(PIXEL_ELEMENTS))
    at = data.find(b"\x28\x00" + element.to_bytes(2, "little"))
    if at >= 0:
        data[at + 8 : at + 10] = (int(rng.choice(EXTREMES)) & 0xFFFF).to_bytes(2, "little")


def relabel(data: bytearray, rng: Rng) -> None:
    """The header names another transfer syntax."""
    if data.find(b"\x02\x00\x10\x00UI") >= 0:
        data[:] = declare_syntax(bytes(data), str(rng.choice([*LOSSLESS, *LOSSY_ENCODERS, "1.2.840.10008.1.2.4.103"])))


def insult(data: bytearray, rng: Rng) -> None:
    """A word replaces a value."""
    word = NASTY_WORDS[int(rng.integers(len(NASTY_WORDS)))]
    at = _place(data, rng, len(word))
    data[at : at + len(word)] = word


def append(data: bytearray, rng: Rng) -> None:
    """Noise follows the end."""
    data += rng.bytes(int(2 ** rng.uniform(0, 16)))


MUTATIONS: tuple[Mutation, ...] = (
    overwrite, overwrite, exaggerate, exaggerate, cut, cut_and_end, drop, blank, repeat, splice, resize, relabel,
    insult, append,
)  # fmt: skip
