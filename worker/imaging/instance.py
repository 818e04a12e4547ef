"""The header of one file as data. Knows no pixels and no database."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

#: Separates the values of modality, body part and view where a header has several (PS3.5 6.2).
VALUES_APART = "\\"


class Container(StrEnum):
    """How the pixels are wrapped."""

    DICOM = "dicom"
    RASTER = "raster"


@dataclass(frozen=True)
class Instance:
    """One SOP Instance, or one PNG/JPEG file with derived UIDs.

    Absent, empty or malformed elements are None; `notes` lists the malformed ones and how they were interpreted.
    """

    container: Container
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    rows: int
    columns: int
    sop_class_uid: str | None = None
    transfer_syntax_uid: str | None = None
    modality: str | None = None
    body_part: str | None = None  #: BodyPartExamined, or the code meanings of AnatomicRegionSequence
    anatomic_region: str | None = None  #: the code meanings of AnatomicRegionSequence
    view: str | None = None  #: ViewPosition, or the code meanings of ViewCodeSequence
    view_code: str | None = None  #: the code meanings of ViewCodeSequence
    photometric_interpretation: str | None = None
    presentation_intent_type: str | None = None
    number_of_frames: int = 1
    age_years: float | None = None  #: PatientAge, else study date minus birth date
    patient_id: str | None = None
    issuer_of_patient_id: str | None = None
    accession_number: str | None = None
    study_date: str | None = None  #: YYYYMMDD
    study_time: str | None = None
    manufacturer: str | None = None
    station_name: str | None = None
    device_serial_number: str | None = None
    is_image: bool = True  #: False: it holds no pixels, and its SOP Class is that of a report, a state, a document
    is_compressed: bool = False  #: the pixels need a codec, which is compiled code that a damaged file may crash
    notes: tuple[str, ...] = field(default=())

    def with_notes(self, notes: tuple[str, ...]) -> "Instance":
        """The same instance with more notes, made while its pixels were read."""
        return replace(self, notes=self.notes + notes)
