"""Reads single elements of an untrusted header: absent, empty and malformed become None; malformed adds a note.

Knows value types, not their use.
"""

import math
import re
import struct
from functools import cache
from typing import Any

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import TEXT_VR_DELIMS

from worker.imaging.instance import VALUES_APART

#: PS3.5 6.2: the longest text values that are kept (LO, UI) have 64 characters.
MAX_TEXT = 64

#: Longest text of several values that is kept, and how many items of a code sequence are read.
MAX_WORDS, MAX_ITEMS = 256, 8

#: Longest value that is parsed. The longest useful value is a sequence of a few look-up tables of 128 KiB; ten
#: megabytes of `1\\` would become five million numbers.
MAX_VALUE_BYTES = 2**20

#: Larger whole numbers are no valid size, depth or pixel value, and no database column accepts them.
MAX_INTEGER = 2**31 - 1

#: Value representations whose bytes are numbers, not their spelling.
_BINARY_VRS = frozenset({"FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})

#: Under these some writers put elements that have another one.
_BYTES_VRS = frozenset({"OB", "OW"})

#: What pydicom raises on values that do not parse.
MALFORMED = (
    ValueError, TypeError, ArithmeticError, LookupError, AttributeError, EOFError, OSError, NotImplementedError,
    RecursionError, struct.error, BytesLengthException,
)  # fmt: skip

#: Of an element; the number of its tag where a keyword stands for several, as those of overlays do (PS3.5 7.6).
Keyword = str | int


class Header:
    """A data set whose accessors return None instead of raising; `notes` collects what was malformed."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.notes: list[str] = []

    def malformed(self, name: str) -> None:
        """Note once that `name` is malformed."""
        note = f"{name}=malformed"
        if note not in self.notes:
            self.notes.append(note)

    @property
    def is_big_endian(self) -> bool:
        """How the words of the data set's binary values are written."""
        return self.dataset.original_encoding[1] is False

    def has(self, keyword: str) -> bool:
        """Whether the element is present, with any value."""
        return _tag(keyword) in self.dataset

    def value(self, keyword: Keyword) -> Any:
        """The parsed value, None when absent, empty, malformed or longer than `MAX_VALUE_BYTES`."""
        tag = _tag(keyword)
        if tag not in self.dataset:
            return None
        try:
            element: Any = self.dataset.get_item(tag)
            if isinstance(element.value, bytes) and len(element.value) > MAX_VALUE_BYTES:
                raise ValueError("too long to be parsed")
            if isinstance(element, RawDataElement) and element.VR in _BYTES_VRS:
                self.dataset[tag] = convert_raw_data_element(element._replace(VR=_known_vr(tag, element.VR)))
            value = self.dataset[tag].value
        except MALFORMED:
            self.malformed(_snake(keyword))
            return None
        return None if value is None or value == "" else value

    def text(self, keyword: str) -> str | None:
        """The first value that is not empty. Control characters and text beyond 64 are removed, with a note."""
        value = self.value(keyword)
        if isinstance(value, MultiValue | list):
            value = next((each for each in value if str(each).strip(" \0")), None)
        if value is None:
            return None
        if isinstance(value, bytes | Sequence):  # the element has a VR that is not text
            self.malformed(_snake(keyword))
            return None
        raw = str(value).strip(" \0")
        clean = "".join(c for c in raw if c.isprintable())[:MAX_TEXT].strip()
        if clean != raw:
            self.malformed(_snake(keyword))
        return clean or None

    def numbers(self, keyword: Keyword) -> list[float]:
        """All values as finite numbers; empty when absent or when any is malformed."""
        value = self.value(keyword)
        if value is None:
            return []
        values = value if isinstance(value, MultiValue | list) else [value]
        try:
            found = [float(v) for v in values]
        except MALFORMED:
            found = [math.nan]
        if not all(math.isfinite(v) for v in found):
            self.malformed(_snake(keyword))
            return []
        return found

    def decimals(self, keyword: str) -> list[float | None]:
        """Each value of a decimal string (PS3.5 6.2, DS) as a finite number, None where it is none.

        A fault leaves a note and does not affect the other values; a decimal comma is read as a point.
        """
        if keyword not in self.dataset:
            return []
        element: Any = self.dataset.get_item(keyword)
        raw = element.value
        if isinstance(raw, bytes) and len(raw) <= MAX_VALUE_BYTES and element.VR not in _BINARY_VRS:
            texts = raw.decode("latin-1").split(VALUES_APART)
        else:
            value = self.value(keyword)
            texts = [str(v) for v in (value if isinstance(value, MultiValue | list) else [value]) if v is not None]
        if not "".join(texts).strip(" \0"):
            return []
        found = [_decimal(text) for text in texts]
        if None in found or any("," in text for text in texts):
            self.malformed(_snake(keyword))
        return found

    def number(self, keyword: Keyword) -> float | None:
        """The first value as a finite number."""
        values = self.numbers(keyword)
        return values[0] if values else None

    def integer(self, keyword: Keyword) -> int | None:
        """The first value as an integer of 32 bits."""
        value = self.number(keyword)
        if value is not None and abs(value) > MAX_INTEGER:
            self.malformed(_snake(keyword))
            return None
        return None if value is None else int(value)

    def items(self, keyword: str) -> list["Header"]:
        """The items of a sequence; they share this header's notes."""
        value = self.value(keyword)
        if value is None:
            return []
        try:
            found = [Header(item) for item in value if isinstance(item, Dataset)]
        except MALFORMED:
            self.malformed(_snake(keyword))
            return []
        for item in found:
            item.notes = self.notes
        return found

    def words(self, keyword: str) -> str | None:
        """All values as one text, joined as DICOM joins them, in whatever character set they were written.

        Stations write `胸部` into elements of VR CS, which may hold ASCII alone (PS3.5 6.2).
        """
        if keyword not in self.dataset:
            return None
        element: Any = self.dataset.get_item(keyword)
        raw = element.value
        if not isinstance(element, RawDataElement) or not isinstance(raw, bytes) or _is_plain(raw):
            value = self.value(keyword)
            values = value if isinstance(value, MultiValue | list) else [value]
            if value is None or isinstance(value, bytes | Sequence):
                return self.text(keyword)
            raw_text = VALUES_APART.join(map(str, values))
        else:
            raw_text = self._decoded(raw[:MAX_VALUE_BYTES])
        whole = raw_text.strip(" \0")
        clean = "".join(c for c in whole if c.isprintable())[:MAX_WORDS]
        if clean != whole:
            self.malformed(_snake(keyword))
        return clean.strip(" " + VALUES_APART) or None

    def _decoded(self, raw: bytes) -> str:
        """Bytes in the data set's Specific Character Set (PS3.5 6.1); without one UTF-8, else Latin alphabet 1."""
        named = self.value("SpecificCharacterSet")
        several = list(named)[:MAX_ITEMS] if isinstance(named, MultiValue | list) else named
        try:
            if several is not None:
                return decode_bytes(raw, convert_encodings(several), TEXT_VR_DELIMS)
            return raw.decode()
        except (*MALFORMED, UnicodeError):
            return raw.decode("latin-1")

    def code_meanings(self, keyword: str) -> str | None:
        """Code Meaning of each item of a code sequence (PS3.3 8.3), joined as values are."""
        meanings = (item.text("CodeMeaning") for item in self.items(keyword)[:MAX_ITEMS])
        return VALUES_APART.join(meaning for meaning in meanings if meaning) or None


def _is_plain(raw: bytes) -> bool:
    """Whether these are ASCII, and no escape sequence (ISO 2022) makes something else of them."""
    return raw.isascii() and b"\x1b" not in raw


@cache
def _tag(keyword: Keyword) -> BaseTag:
    """The tag of an element, looked up once."""
    return Tag(keyword)


def _known_vr(tag: BaseTag, vr: str) -> str:
    """The Standard's value representation of an element that is written as bytes; `vr` where that may be."""
    known = dictionary_VR(tag).split(" or ") if dictionary_has_tag(tag) else [vr]
    return known[0] if _BYTES_VRS.isdisjoint(known) else vr


def _decimal(text: str) -> float | None:
    try:
        number = float(text.strip(" \0").replace(",", "."))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _snake(keyword: Keyword) -> str:
    if isinstance(keyword, int):
        return f"element_{keyword:08x}"
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", keyword).lower()
