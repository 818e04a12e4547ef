"""Which files of a folder are training images."""

from pathlib import Path

import cv2

from tests.phantoms import EXPLICIT_LITTLE, dicom_file, picture
from trainer.data.folders import read_samples

PNG, JPEG = (cv2.imencode(suffix, picture(bits=8))[1].tobytes() for suffix in (".png", ".jpg"))


def test_the_content_says_what_is_an_image_and_not_the_name(tmp_path: Path) -> None:
    plain = dicom_file(picture(), PatientID="P-7", ViewPosition="PA")
    old = dicom_file(picture(), EXPLICIT_LITTLE, PatientID="P-8")[132:]
    old = old[old.index(b"\x08\0\x16\0") :]  # no preamble and no meta information
    folder = tmp_path / "NORMAL"
    folder.mkdir()
    images = dict.fromkeys(["IM000001", "1.2.840.7", "a.IMA", "b.dic", "c.img", "d.DCM"], plain) | {"old": old}
    others = {
        "DICOMDIR": plain, ".hidden.png": PNG, "._a.png": b"\0\5\x16\7", "notes.txt": b"\x08\0ten images",
        "list.csv": b"a,b", "Thumbs.db": b"\xd0\xcf",
    }  # fmt: skip
    for name, content in (images | {"e.jpe": JPEG, "f": PNG} | others).items():
        (folder / name).write_bytes(content)
    found = {Path(s.path).name: s.patient for s in read_samples(tmp_path, is_patient_each=True)}
    assert set(found) == {*images, "e.jpe", "f"}
    assert {found[name] for name in images if name != "old"} == {"P-7"}
    assert found["old"] == "P-8"
