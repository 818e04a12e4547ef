"""Pictures for the page: packed stored values with their table, a half-size preview, a thumbnail, a heat map.

Compressed pixels are decoded in the decoder children only. Packed pictures are cached by digest within a bound.
"""

import base64
import json
from dataclasses import asdict
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row

from worker.errors import StoredFileLost
from worker.imaging.codec.codestream import Coding
from worker.imaging.codec.resolution import MinimumSize
from worker.imaging.display.pipeline import Codes, StoredValues, look_up
from worker.imaging.image_file import OpenImage, open_image
from worker.imaging.preprocess import Preprocessing, place
from worker.imaging.viewer_data import View, read_table, read_view
from worker.inference.overlay import heat_colours
from worker.store.fetch import fetch
from worker.web.packing import Encoding, pack
from worker.web.page_context import PageContext

THUMBNAIL_PX = 128

#: A thumbnail needs no more than this of a compressed image.
SMALL = MinimumSize(THUMBNAIL_PX, THUMBNAIL_PX, frozenset(Coding))

#: Long side of a heat map's picture; it is smooth and drawn over the whole image.
HEAT_PX = 512


def packed(context: PageContext, kept: Row[Any], encoding: Encoding) -> bytes:
    """Stored values in row differences and byte planes, compressed. Raises Rejected or StorageUnavailable."""
    return context.pictures.get((kept.digest, encoding)) or _decoded(context, kept, encoding).pixels


def facts(context: PageContext, kept: Row[Any], encoding: Encoding) -> bytes:
    """JSON of all that the viewer needs beside the pixels; with the tables that make display values."""
    return context.pictures.get((kept.digest, "facts")) or _decoded(context, kept, encoding).facts


def half(context: PageContext, kept: Row[Any], encoding: Encoding) -> bytes:
    """Display values at half the size, PNG without loss: what is seen until the whole depth is there."""
    return context.pictures.get((kept.digest, "half")) or _decoded(context, kept, encoding).half


def thumbnail(context: PageContext, kept: Row[Any]) -> bytes:
    """Display values with a long side of 128 px, as PNG."""
    known = context.thumbnails.get(kept.digest)
    if known is not None:
        return known
    with context.decoding:
        image = _open(context, kept)
        shown = context.decoder.read_display(image, SMALL).pixels
    scale = THUMBNAIL_PX / max(shown.shape)
    size = (max(1, round(shown.shape[1] * scale)), max(1, round(shown.shape[0] * scale)))
    return context.thumbnails.put(kept.digest, _png(np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA))))


def heat(found: Row[Any]) -> bytes:
    """A heat map over its whole image, as PNG whose opacity is the heat."""
    raw = np.frombuffer(found.heatmap, "<f2").astype(np.float32).reshape(found.heatmap_rows, found.heatmap_columns)
    card = json.loads(found.card) if isinstance(found.card, str) else found.card
    preprocessing = Preprocessing.from_json(card["preprocessing"])
    scale = HEAT_PX / max(found.rows, found.columns)
    width, height = max(1, round(found.columns * scale)), max(1, round(found.rows * scale))
    placement = place(preprocessing, found.columns, found.rows)
    level = np.asarray(np.clip(np.nan_to_num(placement.to_original(raw, width, height)), 0, 1) * 255, np.uint8)
    return _png(np.dstack([heat_colours(level), level]))


class ForViewer(NamedTuple):
    """What the viewer asks for of one image; made and cached together."""

    pixels: bytes  #: packed stored values
    facts: bytes  #: JSON
    half: bytes  #: PNG of half the size


def _decoded(context: PageContext, kept: Row[Any], encoding: Encoding) -> ForViewer:
    with context.one_at_a_time(kept.digest):  # a viewer asks for all three at once
        pixels, told, small = (context.pictures.get((kept.digest, part)) for part in (encoding, "facts", "half"))
        if pixels and told and small:
            return ForViewer(pixels, told, small)
        return _decode(context, kept, encoding)


def _decode(context: PageContext, kept: Row[Any], encoding: Encoding) -> ForViewer:
    with context.decoding:
        image = _open(context, kept)
        stored = context.decoder.read_stored(image)
        table = read_table(image.content, stored, context.limits)
        made = ForViewer(
            pixels=pack(stored.codes, encoding),
            facts=json.dumps(viewer_facts(read_view(image.content, context.limits), stored, table)).encode(),
            half=_png(_halved(look_up(stored.codes, table))),
        )
    context.pictures.put((kept.digest, "facts"), made.facts)
    context.pictures.put((kept.digest, "half"), made.half)
    context.pictures.put((kept.digest, encoding), made.pixels)
    return made


def viewer_facts(view: View, stored: StoredValues, table: NDArray[np.uint8]) -> dict[str, Any]:
    """What the viewer needs of a header; nothing of it names the patient."""
    grayscale = view.grayscale
    lut = grayscale.modality_lut
    return {
        "rows": stored.codes.shape[0],
        "columns": stored.codes.shape[1],
        "bytes_per_value": stored.codes.dtype.itemsize,
        "bits": stored.bits,
        "is_signed": stored.is_signed,
        "is_monochrome1": grayscale.is_monochrome1,
        "slope": grayscale.slope,
        "intercept": grayscale.intercept,
        "modality_lut": None if lut is None else {"first": lut.first, "data": lut.data.tolist()},
        "as_sent": base64.b64encode(table.tobytes()).decode(),
        "function": str(view.function),
        "windows": [asdict(window) for window in view.windows],
        "voi_luts": [
            {"label": label, "first": voi.first, "bits": voi.bits, "data": voi.data.tolist()}
            for label, voi in view.voi_luts
        ],
        "range": _range(stored),
        "spacing": None if view.spacing is None else asdict(view.spacing),
    }


def _range(stored: StoredValues) -> list[int]:
    """The smallest and the largest stored value of the image."""
    values = stored.values
    return [int(values.min()), int(values.max())]


def _open(context: PageContext, kept: Row[Any]) -> OpenImage:
    return open_image(fetch(context.store, kept.digest, kept.left_at, kept.crc), context.limits)


def _halved(shown: NDArray[np.uint8]) -> NDArray[np.uint8]:
    even: Any = shown[: shown.shape[0] // 2 * 2, : shown.shape[1] // 2 * 2]
    if min(even.shape) < 2:
        return shown
    return np.asarray(cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def _png(picture: Codes | NDArray[Any]) -> bytes:
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(picture), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise StoredFileLost("the picture cannot be drawn")
    return encoded.tobytes()
