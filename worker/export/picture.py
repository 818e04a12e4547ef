"""A study's picture: the plain radiograph, and beside it the heat map of the model, as one PNG."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text

from schema.database import Database
from worker.decoding.decoder import Decoder
from worker.errors import BadData
from worker.imaging.image_file import open_image
from worker.imaging.limits import Limits
from worker.inference import png
from worker.ledger.transactions import reading
from worker.store import OVERLAYS, Store
from worker.store.fetch import fetch

#: The deciding image first, then those with a heat map, then the others.
IMAGES = text("""
    SELECT instance.digest, instance.left_at, instance.crc, finding.overlay_digest
    FROM study
    JOIN series ON series.study_id = study.id
    JOIN instance ON instance.series_id = series.id AND NOT instance.superseded
    LEFT JOIN screening ON screening.id = study.current_screening_id
    LEFT JOIN finding ON finding.instance_id = instance.id AND finding.screening_id = screening.id
    WHERE study.study_uid = :study_uid
    ORDER BY CASE WHEN finding.ordinal = screening.deciding_finding THEN 0 ELSE 1 END,
        CASE WHEN finding.overlay_digest IS NULL THEN 1 ELSE 0 END, instance.id
""")

#: Height of the picture of an image without a heat map.
PLAIN_HEIGHT_PX = 768


@dataclass(frozen=True)
class Picture:
    """PNG of one image of a study."""

    content: bytes
    has_heat_map: bool


def draw(database: Database, store: Store, study_uid: str, decoder: Decoder, limits: Limits) -> Picture:
    """The picture of a study's deciding image; raises what reading it raises, and BadData where there is none."""
    with reading(database) as connection:
        image = connection.execute(IMAGES, {"study_uid": study_uid}).first()
    if image is None:
        raise BadData("the study has no image that could be shown: `worker show` says why").about(study_uid)
    display = decoder.read_display(open_image(fetch(store, image.digest, image.left_at, image.crc), limits))
    plain = np.asarray(cv2.cvtColor(display.pixels, cv2.COLOR_GRAY2BGR), np.uint8)
    if image.overlay_digest is None:
        return Picture(png.encode(_of_height(plain, PLAIN_HEIGHT_PX)), False)
    drawn = cv2.imdecode(np.frombuffer(store.get(OVERLAYS, image.overlay_digest), np.uint8), cv2.IMREAD_COLOR)
    overlay = np.asarray(drawn, np.uint8)
    return Picture(png.encode(np.hstack([_of_height(plain, overlay.shape[0]), overlay])), True)


def _of_height(picture: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """The picture [h, w, 3] at another height, with its aspect ratio."""
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
