"""The presentation contexts that the receiver accepts: a table of SOP Classes, and the transfer syntaxes of imaging."""

from pynetdicom.presentation import PresentationContext, build_context

from worker.imaging.codec.transfer_syntaxes import ENCAPSULATED, NATIVE, RLE

VERIFICATION = "1.2.840.10008.1.1"

#: SOP Classes of images that are accepted (PS3.4 B.5).
IMAGES = {
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray, for presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "Digital X-Ray, for processing",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture",
}

#: Every transfer syntax that imaging reads.
SYNTAXES = sorted({*NATIVE, *ENCAPSULATED, RLE})


def accepted_contexts() -> list[PresentationContext]:
    """What is accepted; anything else is refused when the association is negotiated."""
    images = [build_context(uid, SYNTAXES) for uid in IMAGES]
    return [build_context(VERIFICATION), *images]
