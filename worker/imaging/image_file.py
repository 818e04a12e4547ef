"""Entry point of imaging: the bytes of one file -> its Instance, its display values, or a model's grid of it.

Detects DICOM, PNG and JPEG by content, never by file name. Knows no paths and no database.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from worker.errors import NotAnImage, Truncated
from worker.imaging import dicom_object, part10, raster
from worker.imaging.codec.resolution import Reduction
from worker.imaging.display.pipeline import Display
from worker.imaging.instance import Instance
from worker.imaging.limits import DEFAULT, Limits
from worker.imaging.preprocess import Preprocessing, apply

#: Begins the message about an archive.
AN_ARCHIVE = "an archive of files"

#: Archives by their signatures: (name, offset, bytes).
ARCHIVES = (
    ("ZIP", 0, b"PK\x03\x04"), ("ZIP", 0, b"PK\x05\x06"), ("7z", 0, b"7z\xbc\xaf\x27\x1c"), ("RAR", 0, b"Rar!\x1a\x07"),
    ("tar", 257, b"ustar"), ("gzip", 0, b"\x1f\x8b\x08"), ("bzip2", 0, b"BZh"), ("xz", 0, b"\xfd7zXZ\x00"),
    ("Zstandard", 0, b"\x28\xb5\x2f\xfd"),
)  # fmt: skip

#: Pictures and documents that are not taken, by their signatures. Files of these are often named `.png` or `.dcm`.
OTHER_FORMATS = (
    ("TIFF", 0, b"II*\0"), ("TIFF", 0, b"MM\0*"), ("BMP", 14, b"\x28\0\0\0"), ("GIF", 0, b"GIF8"), ("WebP", 8, b"WEBP"),
    ("JPEG 2000", 4, b"jP  \r\n"), ("JPEG 2000", 0, b"\xff\x4f\xff\x51"), ("JPEG XL", 4, b"JXL \r\n"),
    ("HEIF or MP4", 4, b"ftyp"),
    ("PDF", 0, b"%PDF-"), ("HTML", 0, b"<!DOCTYPE html"), ("HTML", 0, b"<html"), ("XML", 0, b"<?xml"),
)  # fmt: skip


@dataclass(frozen=True)
class OpenImage:
    """A file whose header was read once; later calls use that header."""

    content: bytes = field(repr=False)
    limits: Limits
    instance: Instance
    show: Callable[[Reduction | None], Display] = field(repr=False)

    def display(self, reduction: Reduction | None = None) -> Display:
        """Decode to display values; raises what `read_display` raises."""
        return self.show(reduction)


def open_image(data: bytes, limits: Limits = DEFAULT) -> OpenImage:
    """Header pass; the result can decode the pixels later. Raises what `read_instance` raises."""
    if part10.looks_like_dicom(data):
        opened = dicom_object.open_object(data, limits)
        return OpenImage(data, limits, opened.instance, opened.display)
    if raster.looks_like_raster(data):
        instance = raster.read_instance(data, limits)
        return OpenImage(data, limits, instance, lambda reduction: raster.read_display(data, limits, reduction))
    raise _refusal(data)


def read_instance(data: bytes, limits: Limits = DEFAULT) -> Instance:
    """Header pass: fast, decodes no pixels, and checks that the file is complete to its end.

    An object whose header names study, series and instance gives its Instance even when its pixels cannot be shown
    (multi-frame, report, unknown transfer syntax). `read_display` then raises the reason, so that the study can show
    it. An object without an image has rows = columns = 0.

    Raises NotAnImage, MissingElement, TooLarge, and Truncated, which carries the Instance when the header names one.
    """
    return open_image(data, limits).instance


def read_display(data: bytes, limits: Limits = DEFAULT, reduction: Reduction | None = None) -> Display:
    """Decode to display values: uint8 [H, W], air dark, with notes on the assumptions that were made.

    If the codestream offers a lower resolution of at least the minimum size, it is decoded at that, with a note. For a
    pyramid the picture is halved, whatever it is coded in; a codestream that holds the halving is decoded at that.
    Raises what `read_instance` raises, and UnsupportedSyntax, UnsupportedPixels, Undecodable.
    """
    if part10.looks_like_dicom(data):
        return dicom_object.open_object(data, limits).display(reduction)
    if raster.looks_like_raster(data):
        return raster.read_display(data, limits, reduction)
    raise _refusal(data)


def read_grid(data: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The picture on a model's grid, [size, size, 1], read by the model's rule. Raises what `read_display` raises."""
    return apply(read_display(data, reduction=preprocessing.pyramid).pixels, preprocessing)[0]


def stored_digest(data: bytes, limits: Limits = DEFAULT) -> str:
    """SHA-256 over shape, type and stored values, before any look-up table.

    The same pixels in two lossless transfer syntaxes have the same digest. It separates a duplicate from a conflict.
    Raises what `read_display` raises.
    """
    if part10.looks_like_dicom(data):
        values = dicom_object.open_object(data, limits).stored_values()
    elif raster.looks_like_raster(data):
        values = raster.read_stored_values(data, limits)
    else:
        raise _refusal(data)
    digest = hashlib.sha256(f"{values.shape} {values.dtype.str}".encode())
    digest.update(values.tobytes())
    return digest.hexdigest()


def _refusal(data: bytes) -> NotAnImage | Truncated:
    # a preallocating copy (SMB, some archives) shows its full length first and zeros until the bytes arrive
    if not any(data[:4096]) or raster.could_become_raster(data):
        return Truncated("only the beginning is there: the file is empty, all zeros, or still being copied")
    archive = _format_of(data, ARCHIVES)
    if archive is not None:
        return NotAnImage(f"{AN_ARCHIVE} ({archive}): unpack it and send the files in it; nothing in it was looked at")
    other = _format_of(data, OTHER_FORMATS)
    content = "" if other is None else f"by its content a {other} file, "
    return NotAnImage(f"{content}neither DICOM nor PNG or JPEG: send radiographs as one of these")


def _format_of(data: bytes, signatures: tuple[tuple[str, int, bytes], ...]) -> str | None:
    """The name of the first format whose signature the data have."""
    return next((name for name, at, mark in signatures if data[at : at + len(mark)] == mark), None)
