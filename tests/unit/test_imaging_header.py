"""What the header pass says of a file: identity, age, view, and whether the file is all there."""

import contextlib
import logging
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import config
from pydicom.dataset import Dataset

from tests import phantoms
from tests.phantoms import FULL, LOSSLESS, NATIVE, dicom_file, picture
from worker.errors import MissingElement, NoPixelData, NotAnImage, Rejected, TooLarge, Truncated
from worker.imaging.image_file import read_display, read_instance
from worker.imaging.instance import Container, Instance
from worker.imaging.lenient_pydicom import lenient_pydicom
from worker.imaging.limits import Limits


def read(**elements: Any) -> Instance:
    return read_instance(dicom_file(picture(), bits=12, **elements))


def coded(meaning: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "399348003", "SCT", meaning
    return [item]


def test_the_header_becomes_an_instance() -> None:
    instance = read(StationName="ROOM1", DeviceSerialNumber="77", IssuerOfPatientID="HOSP")
    assert instance == Instance(
        container=Container.DICOM,
        study_uid=phantoms.STUDY_UID,
        series_uid=phantoms.SERIES_UID,
        sop_instance_uid=phantoms.SOP_INSTANCE_UID,
        rows=48,
        columns=64,
        sop_class_uid=phantoms.DX_FOR_PRESENTATION,
        transfer_syntax_uid=phantoms.EXPLICIT_LITTLE,
        modality="DX",
        body_part="CHEST",
        view="PA",
        photometric_interpretation="MONOCHROME2",
        presentation_intent_type="FOR PRESENTATION",
        age_years=4.0,
        patient_id="P-1",
        issuer_of_patient_id="HOSP",
        accession_number="A-1",
        study_date="20240305",
        study_time="101500",
        manufacturer="Phantom Works",
        station_name="ROOM1",
        device_serial_number="77",
    )


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_every_syntax_gives_the_same_header(syntax: str) -> None:
    instance = read_instance(dicom_file(picture(), syntax, bits=12))
    assert (instance.study_uid, instance.rows, instance.age_years) == (phantoms.STUDY_UID, 48, 4.0)


@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("004Y", 4.0),
        ("018M", 1.5),
        ("052W", 52 * 7 / 365.25),
        ("010D", 10 / 365.25),
        ("4y", 4.0),
        ("000D", 0.0),
        ("000M", 0.0),
    ],
)
def test_ages_in_every_unit(age: str, years: float) -> None:
    assert read(PatientAge=age).age_years == pytest.approx(years)


@pytest.mark.parametrize(
    "age", ["81", "Y", "-04Y", "1234Y", "4 moons", "years 4", "400 YEARS", "4/5 Y", "999Y", "124Y", "000Y", "0 Jahre"]
)
def test_an_age_without_sense_is_unknown_and_noted(age: str) -> None:
    instance = read(PatientAge=age)
    assert instance.age_years is None
    assert "age=malformed" in instance.notes


@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("45 YEARS", 45.0), ("4 years old", 4.0), ("04.5Y", 4.5), ("4,5 ans", 4.5), ("3Y 6M", 3.5), ("18 Months", 1.5),
        ("45 Años", 45.0), ("7 Jahre", 7.0), ("045 Y", 45.0), ("４５歳", 45.0), ("6 лет", 6.0), ("3세", 3.0),
    ],
)  # fmt: skip
def test_an_age_in_other_words_is_understood_and_noted(age: str, years: float) -> None:
    said = age.encode() + b" " * (len(age.encode()) % 2)
    content = dicom_file(picture(), bits=12, PatientAge="9" * len(said), SpecificCharacterSet="ISO_IR 192")
    instance = read_instance(content.replace(b"9" * len(said), said))
    assert instance.age_years == pytest.approx(years)
    assert "age=malformed" in instance.notes


def test_the_first_value_that_is_not_empty_counts() -> None:
    instance = read(PhotometricInterpretation=["", "MONOCHROME1"], PatientID=["", "P-9"])
    assert (instance.photometric_interpretation, instance.patient_id) == ("MONOCHROME1", "P-9")


def test_dates_go_before_an_age_in_other_words() -> None:
    age = read(PatientAge="45 YEARS", PatientBirthDate="20200305", StudyDate="20240305").age_years
    assert age == 4.0


@pytest.mark.parametrize(
    ("birth", "completed"), [("20200305", 4), ("20200306", 3), ("20200229", 4), ("20240305", 0), ("20230305", 1)]
)
def test_without_an_age_the_birth_date_tells(birth: str, completed: int) -> None:
    age = read(PatientAge="", PatientBirthDate=birth).age_years
    assert age is not None
    assert int(age) == completed


@settings(deadline=None)  # a busy machine is no fault
@given(st.dates(date(1920, 1, 1), date(2024, 3, 5)), st.integers(0, 40000))
def test_completed_years_are_those_of_the_calendar(birth: date, days: int) -> None:
    study = birth + timedelta(days=days)
    age = read(PatientAge="", PatientBirthDate=f"{birth:%Y%m%d}", StudyDate=f"{study:%Y%m%d}").age_years
    assert age is not None
    assert int(age) == study.year - birth.year - ((study.month, study.day) < (birth.month, birth.day))


@pytest.mark.parametrize(("age", "years"), [("000Y", 4.0), ("999Y", 4.0), ("000D", 4.0), ("003Y", 3.0)])
def test_an_age_that_was_not_counted_follows_from_the_dates(age: str, years: float) -> None:
    assert read(PatientAge=age, PatientBirthDate="20200305", StudyDate="20240305").age_years == years


@pytest.mark.parametrize("birth", ["20990101", "19000101", "18000101"])
def test_a_birth_after_the_study_or_before_anybody_was_born_is_noted(birth: str) -> None:
    instance = read(PatientAge="", PatientBirthDate=birth)
    assert instance.age_years is None
    assert "birth_date=malformed" in instance.notes


@pytest.mark.parametrize(("birth", "study"), [("19000101", "20200305"), ("18000101", "18500305")])
@pytest.mark.parametrize("age", ["", "000Y"])
def test_a_birth_that_stations_write_for_an_unknown_one_gives_no_age(birth: str, study: str, age: str) -> None:
    instance = read(PatientAge=age, PatientBirthDate=birth, StudyDate=study)
    assert instance.age_years is None
    assert "birth_date=malformed" in instance.notes


@pytest.mark.parametrize(
    ("keyword", "value", "field", "note"),
    [
        ("StudyDate", "20241399", "study_date", "study_date=malformed"),
        ("StudyDate", "yesterday", "study_date", "study_date=malformed"),
        ("StudyDate", "00010101", "study_date", "study_date=malformed"),
        ("StudyTime", "99", "study_time", "study_time=malformed"),
        ("StudyDate", "", "study_date", None),
        ("Modality", "", "modality", None),
        ("BodyPartExamined", "   ", "body_part", None),
    ],
)
def test_malformed_and_empty_values_are_unknown(keyword: str, value: str, field: str, note: str | None) -> None:
    instance = read(**{keyword: value})
    assert getattr(instance, field) is None
    assert instance.notes == (() if note is None else (note,))


def test_old_dates_with_dots_are_understood() -> None:
    assert read(StudyDate="2024.03.05").study_date == "20240305"


def test_view_and_body_part_fall_back_to_their_codes() -> None:
    instance = read(
        without=("ViewPosition", "BodyPartExamined"),
        ViewCodeSequence=coded("postero-anterior"),
        AnatomicRegionSequence=coded("Chest"),
    )
    assert (instance.view, instance.body_part) == ("postero-anterior", "Chest")


def test_control_characters_never_leave_the_header() -> None:
    instance = read(AccessionNumber="A\x1b[31m1\n", PatientID="P" * 200)
    assert instance.accession_number == "A[31m1"
    assert instance.patient_id == "P" * 64
    assert set(instance.notes) == {"accession_number=malformed", "patient_id=malformed"}


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", ["", "1." * 40, "1.2\n3"])
def test_without_a_usable_uid_it_cannot_be_filed(keyword: str, value: str) -> None:
    with pytest.raises(MissingElement, match=keyword):
        read(**{keyword: value})


def test_uids_are_kept_as_they_are_for_they_are_only_text() -> None:
    assert read(StudyInstanceUID="../../etc/passwd").study_uid == "../../etc/passwd"


def test_a_dicom_report_is_an_instance_without_an_image() -> None:
    data = dicom_file(None, Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    instance = read_instance(data)
    assert (instance.modality, instance.rows, instance.columns) == ("SR", 0, 0)
    with pytest.raises(NoPixelData, match="not an image"):
        read_display(data)


def test_a_media_directory_is_no_image() -> None:
    with pytest.raises(NotAnImage, match="DICOMDIR"):
        read_instance(dicom_file(None, SOPClassUID="1.2.840.10008.1.3.10"))


def test_a_multiframe_object_keeps_its_study() -> None:
    assert read(NumberOfFrames=10, pixel_data=picture().tobytes() * 10).number_of_frames == 10


@pytest.mark.parametrize(
    ("syntax", "meta"), [(s, True) for s in NATIVE] + [(s, False) for s in NATIVE if s != phantoms.DEFLATED]
)
def test_without_preamble_it_is_read_by_its_first_element(syntax: str, meta: bool) -> None:
    data = dicom_file(picture(), syntax, bits=12, preamble=False, meta=meta)
    whole = dicom_file(picture(), syntax, bits=12)
    assert read_instance(data) == read_instance(whole)
    assert np.array_equal(read_display(data).pixels, read_display(whole).pixels)


@pytest.mark.parametrize("without", ["StudyInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_without_preamble_and_identity_it_is_nothing(without: str) -> None:
    with pytest.raises(NotAnImage):
        read_instance(dicom_file(picture(), bits=12, meta=False, preamble=False, without=(without,)))


@pytest.mark.parametrize(
    "data", [b"<!DOCTYPE html><html>" + b" " * 300, b"GIF89a" + b"x" * 200, b"II*\0" + b"x" * 200, b"BM" + b"x" * 200]
)
def test_other_files_are_no_images(data: bytes) -> None:
    with pytest.raises(NotAnImage, match="DICOM nor PNG or JPEG"):
        read_instance(data)


@pytest.mark.parametrize("data", [b"", bytes(5000), bytes(128), b"\x89PN", b"\xff"])
def test_a_file_that_may_still_grow_into_one_is_truncated(data: bytes) -> None:
    with pytest.raises(Truncated):
        read_instance(data)


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_a_file_cut_anywhere_is_truncated(syntax: str) -> None:
    data = dicom_file(picture(12, 16), syntax, bits=12)
    header = data.index(phantoms.STUDY_UID.encode()) if syntax != phantoms.DEFLATED else len(data)
    with_study = 0
    for length in range(132, len(data) - 8):
        with pytest.raises((Truncated, NoPixelData)) as caught:
            read_instance(data[:length])
        assert isinstance(caught.value, Truncated) or caught.value.instance, "cut after a whole element of the header"
        if caught.value.instance is not None:
            assert isinstance(caught.value.instance, Instance)
            assert caught.value.instance.study_uid == phantoms.STUDY_UID
            with_study += 1
    if syntax != phantoms.DEFLATED:
        assert with_study > (len(data) - header) * 0.3


def test_trailing_bytes_after_the_pixels_are_tolerated() -> None:
    data = dicom_file(picture(), bits=12)
    for tail in (b"\0", b"\0" * 500, b"junk after the end of the object"):
        assert read_instance(data + tail) == read_instance(data)
        assert np.array_equal(read_display(data + tail).pixels, read_display(data).pixels)


def test_a_missing_pad_byte_is_tolerated() -> None:
    odd = picture(rows=9, columns=9, bits=8)
    data = dicom_file(odd, bits=8)
    assert np.array_equal(read_display(data[:-1]).pixels, read_display(data).pixels)


def test_too_large_is_said_before_anything_is_allocated() -> None:
    with pytest.raises(TooLarge, match="SCREENING_MAX_PIXEL_MIB"):
        read(Rows=60000, Columns=60000)
    with pytest.raises(TooLarge):
        read_instance(dicom_file(picture(), bits=12), Limits(max_pixel_bytes=1000))


def test_a_deflated_bomb_is_too_large() -> None:
    limits = Limits(max_pixel_bytes=1 << 20, max_header_bytes=1 << 16)
    bomb = dicom_file(np.zeros((2000, 2000), np.uint16), phantoms.DEFLATED)
    assert len(bomb) < 1 << 16
    with pytest.raises(TooLarge, match="deflated"):
        read_instance(bomb, limits)


def test_sequences_nested_without_end_are_refused() -> None:
    nested = (b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 5000
    with pytest.raises(MissingElement, match="nested"):
        read_instance(dicom_file(None) + nested)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_are_read_or_rejected_never_a_crash(data: st.DataObject) -> None:
    syntax = data.draw(st.sampled_from(LOSSLESS))
    broken = bytearray(dicom_file(picture(12, 16), syntax, bits=12, ViewCodeSequence=coded("frontal")))
    for _ in range(data.draw(st.integers(1, 12))):
        broken[data.draw(st.integers(132, len(broken) - 1))] = data.draw(st.integers(0, 255))
    for reading in (read_instance, read_display):
        with contextlib.suppress(Rejected):  # anything else is a bug, and fails here
            reading(bytes(broken))


def test_pydicom_keeps_silent_until_the_last_of_several_threads_has_read() -> None:
    def switches() -> tuple[object, ...]:
        return config.settings.reading_validation_mode, list(warnings.filters)

    before = switches()
    first, second = lenient_pydicom(), lenient_pydicom()
    with ThreadPoolExecutor(1) as other:
        first.__enter__()
        other.submit(second.__enter__).result()
        first.__exit__(None, None, None)
        assert logging.getLogger("pydicom").level > logging.CRITICAL
        assert config.settings.reading_validation_mode == config.IGNORE
        warnings.warn("Invalid value for VR PN: 'DOE^JANE'", stacklevel=1)
        other.submit(second.__exit__, None, None, None).result()
    assert switches() == before


def test_reading_a_header_does_not_make_every_logger_of_the_process_work_anew() -> None:
    """A logger's level, once changed, empties what all others remember: half a millisecond for each file."""
    ours = logging.getLogger("worker.somewhere")
    with lenient_pydicom():
        ours.isEnabledFor(logging.INFO)
        remembered = dict(vars(ours)["_cache"])
    with lenient_pydicom():
        pass
    assert vars(ours)["_cache"] == remembered != {}


@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_elements_that_are_written_as_bytes_are_read_as_the_standard_has_them(vr: str) -> None:
    pixels = picture()
    plain = dicom_file(pixels, bits=12, PhotometricInterpretation="MONOCHROME1", Modality="CR", **FULL)
    as_bytes = Dataset()
    for keyword, number in (("Rows", pixels.shape[0]), ("BitsStored", 12), ("PixelRepresentation", 0)):
        as_bytes.add_new(keyword, vr, struct.pack("<H", number))
    for keyword, words in (
        ("PhotometricInterpretation", b"MONOCHROME1 "),
        ("Modality", b"CR"),
        ("PatientAge", b"004Y"),
    ):
        as_bytes.add_new(keyword, vr, words)
    as_bytes.add_new("StudyInstanceUID", vr, phantoms.STUDY_UID.encode() + b"\0" * (len(phantoms.STUDY_UID) % 2))
    data = dicom_file(pixels, bits=12, extra=as_bytes, **FULL)
    assert read_instance(data) == read_instance(plain)
    assert np.array_equal(read_display(data).pixels, read_display(plain).pixels)
    assert read_display(data).notes == read_display(plain).notes
