"""A de-identified object contains no name, whatever the original held, and shows the same picture."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset

from schema.vocabulary import AuditAction, ReviewOutcome
from tests.integration.test_labels import EVER, SAMPLES, take_in
from tests.ledger import Ledger
from tests.phantoms import SERIES_UID, SOP_INSTANCE_UID, STUDY_UID, dicom_file, lut_item, picture, rescale, window
from worker.errors import BadData
from worker.export import labels
from worker.export.deidentify import EMPTIED, deidentify, fault
from worker.export.studies import Exported, export
from worker.imaging.dicom_object import open_object
from worker.imaging.image_file import read_display
from worker.imaging.lenient_pydicom import lenient_pydicom
from worker.imaging.limits import DEFAULT
from worker.ledger import audit, decisions
from worker.ledger.intake import register
from worker.ledger.intake.arrivals import Incoming, Receipt
from worker.store import OBJECTS

NAME = "PLANTEDNAME"
BIRTH = "20210314"
KEY = b"k" * 32
EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"

TEXTS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}

#: Groups below are of messages and of files (0000, 0002, 0004), not of objects.
LAST_OF_COMMANDS = 0x0004FFFF

#: Words that decide what an object is; a name in them would keep it in.
DECIDING = {
    "Modality", "PhotometricInterpretation", "SpecificCharacterSet", "PresentationIntentType", "PresentationLUTShape",
}  # fmt: skip

#: All that may stand in an object that leaves.
ALLOWED = {
    *EMPTIED, "PatientID", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence", "ImageType",
    "LongitudinalTemporalInformationModified", "BodyPartExamined", "ViewPosition", "PresentationIntentType",
    "BurnedInAnnotation", "LossyImageCompression", "PixelSpacing", "ImagerPixelSpacing", "SamplesPerPixel",
    "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept",
    "RescaleType", "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "PresentationLUTShape", "PixelData",
}  # fmt: skip


def named() -> dict[str, Any]:
    """A name in every element of the Standard that takes text, a birth date in every one that takes a date."""
    found: dict[str, Any] = {
        keyword: NAME if vr in TEXTS else BIRTH
        for tag, (vr, _, _, _, keyword) in DicomDictionary.items()
        if tag > LAST_OF_COMMANDS and keyword and (vr in TEXTS or vr == "DA") and keyword not in DECIDING
    }
    return found | {"BodyPartExamined": f"CHEST {NAME}", "ViewPosition": f"POSTERO-ANTERIOR {NAME}"}


def planted(syntax: str = EXPLICIT, frame: bytes | None = None) -> bytes:
    """A radiograph with a name wherever one can stand: text, items, private elements, overlay, preamble, trailer."""
    lut = lut_item(0, 8, list(range(256)))
    lut[0].LUTExplanation = NAME
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = NAME, "99", f"POSTERO-ANTERIOR {NAME}"
    file = dicom_file(
        picture(bits=8), syntax, bits=8, frame=frame, VOILUTSequence=lut, ViewCodeSequence=[item],
        AnatomicRegionSequence=[item], **named(),
    )  # fmt: skip
    dataset = dcmread(BytesIO(file))
    with lenient_pydicom():
        dataset.private_block(0x0011, NAME, create=True).add_new(1, "LO", NAME)
        dataset.add_new(0x60003000, "OW", (NAME + " ").encode())
        dataset.add_new(0xFFFCFFFC, "OB", (NAME + " ").encode())
        dataset.preamble = NAME.encode().ljust(128, b"\0")
        dataset.file_meta.SourceApplicationEntityTitle = NAME
        out = BytesIO()
        dataset.save_as(out)
    return out.getvalue()


def jpeg_with_comment() -> bytes:
    coded = cv2.imencode(".jpg", picture(bits=8))[1].tobytes()
    comment = NAME.encode()
    return coded[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + coded[2:]


def take(desk: Ledger, content: bytes, name: str = "x") -> str:
    opened = open_object(content, DEFAULT)
    receipt = Receipt(Incoming(f"/inbox/{name}", len(content), 1), opened.instance, desk.store.put(OBJECTS, content))
    register.register(desk.database, receipt, desk.settings, desk.clock())
    return opened.instance.study_uid


def leave(desk: Ledger, out: Path, *study_uids: str) -> tuple[Exported, list[Path]]:
    exported = export(desk.database, desk.store, study_uids, out, DEFAULT, "Gus")
    return exported, sorted(out.iterdir())


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("syntax", [EXPLICIT, JPEG])
def test_no_byte_of_a_name_leaves(desk: Ledger, tmp_path: Path, syntax: str) -> None:
    content = planted(syntax, None if syntax == EXPLICIT else jpeg_with_comment())
    assert content.count(NAME.encode()) > 1000
    exported, (file,) = leave(desk, tmp_path / "out", take(desk, content))
    assert exported.left_out == {}
    left = file.read_bytes()
    for secret in (NAME, BIRTH, STUDY_UID, SERIES_UID, SOP_INSTANCE_UID):
        assert secret.encode() not in left, secret
        assert secret not in file.name
    assert np.array_equal(read_display(left).pixels, read_display(content).pixels)
    dataset = dcmread(file)
    assert {element.keyword for element in dataset} <= ALLOWED
    assert dataset.PatientIdentityRemoved == "YES"
    assert ("LossyImageCompression" in dataset) == (syntax == JPEG), "its history stays"
    assert dataset.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert (dataset.BodyPartExamined, dataset.ViewPosition, str(dataset.PatientName)) == ("CHEST", "PA", "")


def phantoms() -> Iterator[Any]:
    deep = picture(bits=12)
    signed = deep.astype(np.int16) - 1000
    yield pytest.param(deep, {"PhotometricInterpretation": "MONOCHROME1"}, id="monochrome1")
    yield pytest.param(deep, window(1000.5, 800, "SIGMOID"), id="window")
    yield pytest.param(deep, rescale(1.25, -1024.123456789) | window(0, 900), id="rescale")
    yield pytest.param(signed, {"PixelRepresentation": 1} | window(-100, 900), id="signed")
    yield pytest.param(deep, {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 40}, id="padding")
    yield pytest.param(deep, {"VOILUTSequence": lut_item(10, 12, list(range(4095, -1, -1)))}, id="voi_lut")
    yield pytest.param(
        deep, {"ModalityLUTSequence": lut_item(0, 12, [v // 2 for v in range(4096)])} | window(1000, 900), id="modality"
    )
    yield pytest.param(
        deep, {"PresentationLUTShape": "INVERSE", "PhotometricInterpretation": "MONOCHROME1"}, id="shape"
    )


@pytest.mark.parametrize(("pixels", "elements"), [*phantoms()])
def test_the_picture_stays_the_same(pixels: Any, elements: dict[str, Any]) -> None:
    content = dicom_file(pixels, bits=12, **elements)
    opened = open_object(content, DEFAULT)
    _, left = deidentify(opened, KEY, "p")
    assert np.array_equal(read_display(left).pixels, read_display(content).pixels)
    assert np.array_equal(dcmread(BytesIO(left)).pixel_array, opened.stored_values()), "also for other readers"


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.glob("*.dcm")))
def test_every_sample_leaves_with_its_picture_or_stays(name: str) -> None:
    content = (SAMPLES / name).read_bytes()
    if name == "rosa_truncated.dcm":
        return
    opened = open_object(content, DEFAULT)
    stays = {"olga_hand.dcm": "other_body_part", "paul_lateral.dcm": "not_frontal"}.get(name)
    assert fault(opened) == stays
    if stays is None:
        _, left = deidentify(opened, KEY, "p")
        assert np.array_equal(read_display(left).pixels, read_display(content).pixels)


@pytest.mark.parametrize("kind", ["sqlite"])
def test_what_must_stay_is_told_and_who_took_the_rest_is_noted(desk: Ledger, tmp_path: Path) -> None:
    burned = take(desk, dicom_file(picture(bits=8), StudyInstanceUID="1.2.8", BurnedInAnnotation="YES"))
    raster, lateral, pa = (take_in(desk, name) for name in ("ida_8_bit.png", "paul_lateral.dcm", "anna_explicit.dcm"))
    exported, files = leave(desk, tmp_path / "out", burned, raster, lateral, pa)
    assert (exported.objects, exported.studies, len(files)) == (1, {pa}, 1)
    assert exported.left_out == {
        "its header says that words are burned into the picture": 1,
        "no DICOM object (`worker export-labels` writes these)": 1,
        "not_frontal": 1,
    }
    noted = [(e.who, e.study_uid) for e in audit.trail(desk.database, EVER) if e.deed == AuditAction.DEIDENTIFIED]
    assert noted == [("Gus", uid) for uid in (burned, raster, lateral, pa)]
    with pytest.raises(BadData, match="is not empty"):
        leave(desk, tmp_path / "out", pa)


@pytest.mark.parametrize("kind", ["sqlite"])
def test_uids_and_patients_are_told_apart_and_fit_the_labels(desk: Ledger, tmp_path: Path) -> None:
    ap, pa = take_in(desk, "hugo_ap.dcm"), take_in(desk, "hugo_pa.dcm")
    decisions.review(desk.database, pa, ReviewOutcome.PNEUMONIA, "Dr Test", None, desk.clock())
    _, files = leave(desk, tmp_path / "out", *dict.fromkeys((ap, pa)))
    first, second = (dcmread(file) for file in files)
    assert (ap == pa) == (first.StudyInstanceUID == second.StudyInstanceUID)
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert all(uid.is_valid for uid in (first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID))
    labels.export(desk.database, desk.store, tmp_path / "labels", EVER, DEFAULT)
    assert first.PatientID in (tmp_path / "labels" / "index.csv").read_text()
    (desk.store.folder / "pseudonym.key").unlink()
    _, again = leave(desk, tmp_path / "again", *dict.fromkeys((ap, pa)))
    assert {file.name for file in again}.isdisjoint(file.name for file in files), "another key, other UIDs"
