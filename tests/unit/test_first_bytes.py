"""The header read from a file's first bytes is that of the whole file, or it is not given at all."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests import phantoms
from tests.phantoms import dicom_file, picture
from worker.errors import Rejected
from worker.imaging.first_bytes import FIRST_BYTES, read_from_first_bytes
from worker.imaging.image_file import read_instance
from worker.imaging.instance import Instance
from worker.imaging.limits import DEFAULT

PIXELS = np.maximum(picture(200, 160), 1)
SAMPLES = Path(__file__).parents[1] / "data"


def from_first_bytes(content: bytes) -> Instance | None:
    return read_from_first_bytes(lambda at, length: content[at : at + length], len(content), DEFAULT)


def require_equal(content: bytes) -> Instance | None:
    """What the first bytes say; raises AssertionError when the whole file says otherwise."""
    found = from_first_bytes(content)
    if found is not None:
        try:
            whole = read_instance(content)
        except Rejected as error:
            raise AssertionError(f"the whole file is refused: {error}") from error
        assert found == whole
    return found


def sequence() -> Dataset:
    """A code sequence, as views have."""
    item, dataset = Dataset(), Dataset()
    item.CodeMeaning = "postero-anterior"
    dataset.ViewCodeSequence = Sequence([item])
    return dataset


ORDINARY: dict[str, Callable[[], bytes]] = {
    "12 bits": lambda: dicom_file(PIXELS, bits=12),
    "8 bits": lambda: dicom_file(np.asarray(PIXELS >> 4 | 1, np.uint8), bits=8),
    "odd length": lambda: dicom_file(np.full((5, 33), 7, np.uint8), bits=8),
    "no age": lambda: dicom_file(PIXELS, bits=12, without=("PatientAge",)),
    "malformed": lambda: dicom_file(PIXELS, bits=12, PatientAge="81", StudyDate="2024.02.30"),
    "a sequence": lambda: dicom_file(PIXELS, bits=12, extra=sequence()),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_object_needs_no_more(name: str) -> None:
    assert require_equal(ORDINARY[name]()) is not None


def others() -> Iterator[tuple[str, bytes]]:
    """Objects that must be read whole, or are refused."""
    whole = dicom_file(PIXELS, bits=12)
    yield from ((f"cut at {at}", whole[:at]) for at in range(0, len(whole), 997))
    yield from ((f"zeros from {at}", whole[:at] + bytes(len(whole) - at)) for at in range(0, len(whole), 4999))
    yield "a hole", whole[:20_000] + bytes(8192) + whole[28_192:]
    yield "bytes after the pixels", whole + b"\xfc\xff\xfc\xffOB\0\0\x02\0\0\0\0\0"
    yield "no preamble", dicom_file(PIXELS, bits=12, preamble=False)
    yield "rows that are not there", dicom_file(PIXELS, bits=12, Rows=201)
    yield "an empty file", b""
    yield "no study", dicom_file(PIXELS, bits=12, without=("StudyInstanceUID",))
    yield from ((syntax, dicom_file(PIXELS, syntax, bits=12)) for syntax in phantoms.LOSSLESS_ENCODERS)
    header: dict[str, Any] = {"ImageComments": "x" * FIRST_BYTES}
    yield "a long header", dicom_file(PIXELS, bits=12, **header)


def test_every_other_object_is_read_whole() -> None:
    assert {name for name, content in others() if require_equal(content) is not None} == set()


@pytest.mark.parametrize("path", sorted(p for p in SAMPLES.rglob("*") if p.is_file()), ids=lambda p: p.name)
def test_samples_say_the_same(path: Path) -> None:
    require_equal(path.read_bytes())
