"""Patient and study of a received object, as they stand there, for the header of a result object.

Absent elements of type 2 are empty; values that break the Standard are left out, because no writer takes them.
"""

import re
from datetime import date

from pydicom.dataset import Dataset

from worker.errors import NotAnImage
from worker.imaging.header import MALFORMED
from worker.imaging.lenient_pydicom import lenient_pydicom
from worker.imaging.limits import Limits
from worker.imaging.part10 import looks_like_dicom, open_part10

#: Patient and study modules (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2): those of type 2, then others that are copied if present.
TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber",
)  # fmt: skip
OTHERS = ("IssuerOfPatientID", "StudyDescription", "PatientAge")

#: Elements with a form that the Standard prescribes (PS3.5 6.2); others are text.
FORMS = {
    "PatientSex": re.compile("[MFO]"),
    "StudyTime": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"),
    "PatientAge": re.compile(r"\d{3}[DWMY]"),
}
DATES = ("PatientBirthDate", "StudyDate")

#: Intake has held the object against the site's limits.
_ADMITTED = Limits(max_pixel_bytes=1 << 40)

LONGEST = {"PatientID": 64, "StudyID": 16, "AccessionNumber": 16, "IssuerOfPatientID": 64, "StudyDescription": 64}


def source_header(content: bytes, study_uid: str) -> Dataset:
    """The patient and study elements of an object.

    Raises NotAnImage when it is no DICOM object, MissingElement when its header cannot be read.
    """
    with lenient_pydicom():
        if not looks_like_dicom(content):
            raise NotAnImage("it is no DICOM object any more")
        source = open_part10(content, _ADMITTED).dataset  # as intake read it, faults of its writer included
        header = Dataset()
        header.StudyInstanceUID = study_uid
        charset = _value(source, "SpecificCharacterSet")
        if charset is not None:
            header.SpecificCharacterSet = charset
        for keyword in TYPE_2:
            setattr(header, keyword, _value(source, keyword) or "")
        for keyword in OTHERS:
            value = _value(source, keyword)
            if value is not None:
                setattr(header, keyword, value)
        return header


def _value(source: Dataset, keyword: str) -> object | None:
    """The value of an element if it has the form of the Standard, else None."""
    try:
        value = source.get(keyword)
        text = str(value)
    except MALFORMED:
        return None
    if value is None or text == "":
        return None
    if keyword in DATES:
        return text if _is_date(text) else None
    form = FORMS.get(keyword)
    if form is not None:
        return text if form.fullmatch(text) else None
    if keyword != "SpecificCharacterSet" and (not text.isprintable() or "\\" in text):
        return None
    return None if len(text) > LONGEST.get(keyword, 324) else value


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"\d{8}", text):
        return False
    try:
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return True
