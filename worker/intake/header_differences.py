"""How the header of a file differs from that of an accepted file with the same SOP Instance UID and pixels.

A station or a PACS that corrects a header often sends the image again under its old UID.
"""

import numpy as np

from worker.decoding.decoder import Decoder
from worker.decoding.pool import DecoderPool
from worker.errors import Rejected
from worker.imaging.image_file import open_image
from worker.imaging.limits import Limits
from worker.ledger.intake.arrivals import Correction
from worker.screening.rules import eligible

#: Elements that decide whether and how an image is screened.
SCREENED_BY = (
    "modality", "body_part", "anatomic_region", "view", "view_code", "presentation_intent_type", "age_years",
)  # fmt: skip

#: Elements that people see, or that name the study.
SHOWN = (
    "patient_id", "issuer_of_patient_id", "accession_number", "study_date", "study_time", "manufacturer",
    "station_name", "device_serial_number",
)  # fmt: skip

#: Named where the same stored values are shown otherwise: another window, MONOCHROME1 for MONOCHROME2, ...
DISPLAY_VALUES = "display_values"


def correction_of(copy: bytes, digest: str, later: bytes, decoder: Decoder | DecoderPool, limits: Limits) -> Correction:
    """How `later` corrects `copy`, a file with this digest and the same stored values. Raises Rejected.

    What the later header leaves out is no correction.
    """
    before, after = open_image(copy, limits), open_image(later, limits)
    differing = [
        name
        for name in (*SCREENED_BY, *SHOWN)
        if getattr(after.instance, name) not in (None, getattr(before.instance, name))
    ]
    try:
        is_shown_alike = np.array_equal(decoder.read_display(before).pixels, decoder.read_display(after).pixels)
    except Rejected:
        is_shown_alike = True  # nothing to compare
    if not is_shown_alike:
        differing.append(DISPLAY_VALUES)
    matters = not is_shown_alike or any(name in SCREENED_BY for name in differing)
    was_excluded, is_excluded = (eligible(each.instance).exclusion is not None for each in (before, after))
    return Correction(digest, tuple(differing), matters, is_excluded and not was_excluded)
