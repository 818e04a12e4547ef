"""Hostile and odd files, one by one, each beside a healthy one: one state, a stable code, a message with the remedy.

What concerns paths and permissions stands in `test_intake`, `test_watcher` and `test_hostile_files`; codecs that fail
in `test_decoder_guard`.
"""

import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom.encaps import encapsulate

from schema.database import Database
from schema.vocabulary import FileState, Verdict
from tests.brightness_model import write_model
from tests.ledger import Clock
from tests.phantoms import (
    EXPLICIT_LITTLE,
    FULL,
    IMPLICIT_LITTLE,
    JPEG_LS,
    LOSSLESS_ENCODERS,
    SOP_INSTANCE_UID,
    STUDY_UID,
    declare_syntax,
    dicom_file,
    picture,
)
from tests.screen_one_study import screen_study
from worker.decoding.decoder import Decoder
from worker.inference.model import open_model
from worker.intake.folder_scan import files_in
from worker.intake.ingest import Intake
from worker.ledger.intake.arrivals import Registration
from worker.ledger.screening import outbox
from worker.monitoring.reconciliation import reconcile
from worker.screen_study import StudyScreener
from worker.settings import Settings
from worker.store.folder import FolderStore
from worker.worklist.details import show
from worker.worklist.quarantined_files import quarantine
from worker.worklist.unread_list import entries

PICTURE = picture(bits=8)
FRAME = LOSSLESS_ENCODERS[JPEG_LS](PICTURE, 8)


@dataclass(frozen=True)
class Case:
    """A file, and what must become of it. `code` is the arrival's, or the reason of an unscreenable study."""

    content: bytes
    state: FileState = FileState.ACCEPTED
    code: str | None = None
    told: str = ""
    has_study: bool = True


def dx(pixels: Any = PICTURE, syntax: str = EXPLICIT_LITTLE, **elements: Any) -> bytes:
    return dicom_file(pixels, syntax, **elements)


def named(charset: str, name: str, codec: str) -> bytes:
    """A patient and an accession number in a character set, written as its bytes."""
    raw = name.encode(codec)
    data = dx(SpecificCharacterSet=charset, PatientName="N" * len(raw), AccessionNumber="A" * len(raw))
    return data.replace(b"N" * len(raw), raw).replace(b"A" * len(raw), raw)


def nested(levels: int, is_open: bool) -> bytes:
    """A sequence in a sequence in a sequence, of open or stated lengths, where we look for the view."""
    value = b""
    for _ in range(levels):
        item = b"\xfe\xff\x00\xe0" + struct.pack("<I", 0xFFFFFFFF if is_open else len(value)) + value
        item += b"\xfe\xff\x0d\xe0\0\0\0\0" if is_open else b""
        tail = b"\xfe\xff\xdd\xe0\0\0\0\0" if is_open else b""
        head = b"\x54\x00\x20\x02SQ\0\0" + struct.pack("<I", 0xFFFFFFFF if is_open else len(item))
        value = head + item + tail
    return before_pixels(value)


def before_pixels(elements: bytes) -> bytes:
    """A radiograph with these elements, of groups up to 7FE0, before its pixels."""
    tag = b"\xe0\x7f\x10\x00OB"
    return dx().replace(tag, elements + tag)


def overlaid() -> bytes:
    """With an overlay plane (PS3.3 C.9.2), all set, beside the pixels."""
    plane = b"\x00\x60\x10\x00US\x02\x00\x30\x00" + b"\x00\x60\x11\x00US\x02\x00\x40\x00"
    plane += b"\x00\x60\x00\x30OW\0\0" + struct.pack("<I", 384) + b"\xff" * 384
    return before_pixels(plane)


def huge_png(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header, rows = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0), zlib.compress(bytes(99))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def huge_jpeg() -> bytes:
    data = cv2.imencode(".jpg", PICTURE)[1].tobytes()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", 65500, 65500) + data[at + 4 :]


PALETTE: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
for _colour in ("Red", "Green", "Blue"):
    PALETTE[f"{_colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
    PALETTE[f"{_colour}PaletteColorLookupTableData"] = (np.arange(256, dtype="<u2") * 257).tobytes()
QUARANTINED = FileState.QUARANTINED
TOO_LARGE = "SCREENING_MAX_PIXEL_MIB"

CASES: dict[str, Case] = {
    "uid_is_a_path": Case(dx(StudyInstanceUID="../../../../tmp/escaped", SeriesInstanceUID="/etc/passwd")),
    "uid_is_sql": Case(dx(StudyInstanceUID="1'; DROP TABLE study;--")),
    "uid_of_64_characters": Case(dx(StudyInstanceUID="1." + "2" * 62)),
    "uid_of_65_characters": Case(
        dx(StudyInstanceUID="1." + "2" * 63), QUARANTINED, "missing_element", "at its sender", has_study=False
    ),
    "uid_is_empty": Case(dx(StudyInstanceUID=""), QUARANTINED, "missing_element", "StudyInstanceUID", has_study=False),
    "uid_is_missing": Case(
        dx(without=("SeriesInstanceUID",)), QUARANTINED, "missing_element", "SeriesInstanceUID", has_study=False
    ),
    "sop_uid_only_in_the_meta_group": Case(dx(without=("SOPInstanceUID",))),
    "japanese": Case(named("\\ISO 2022 IR 87", "山田", "iso2022_jp")),
    "cyrillic": Case(named("ISO_IR 144", "Петров", "iso8859_5")),
    "arabic": Case(named("ISO_IR 127", "محمد", "iso8859_6")),
    "chinese": Case(named("GB18030", "王小东", "gb18030")),
    "utf_8": Case(named("ISO_IR 192", "Ångström", "utf-8")),
    "no_such_character_set": Case(named("ISO_IR 4711", "Müller", "latin-1")),
    "another_character_set_than_declared": Case(named("ISO_IR 192", "Müller", "latin-1")),
    "nested_1000_deep": Case(nested(1000, True), QUARANTINED, "missing_element", "nested deeper", has_study=False),
    "nested_1000_deep_with_lengths": Case(nested(1000, False)),
    "8.6_GB_in_256_bytes": Case(
        dx(pixel_data=bytes(256), Rows=65535, Columns=65535, BitsAllocated=16), QUARANTINED, "too_large", TOO_LARGE
    ),
    "65535_x_65535": Case(dx(pixel_data=bytes(256), Rows=65535, Columns=65535), QUARANTINED, "too_large", TOO_LARGE),
    "png_of_65535_x_65535": Case(huge_png(65535), QUARANTINED, "too_large", TOO_LARGE, has_study=False),
    "jpeg_of_65500_x_65500": Case(huge_jpeg(), QUARANTINED, "too_large", TOO_LARGE, has_study=False),
    "png_of_less_than_it_says": Case(huge_png(200), code="undecodable", told="broken"),
    "native_that_says_jpeg": Case(declare_syntax(dx(), "1.2.840.10008.1.2.4.50")),
    "jpeg_ls_that_says_native": Case(declare_syntax(dx(syntax=JPEG_LS), EXPLICIT_LITTLE)),
    "jpeg_ls_that_says_rle": Case(declare_syntax(dx(syntax=JPEG_LS), "1.2.840.10008.1.2.5")),
    "explicit_that_says_implicit": Case(declare_syntax(dx(), IMPLICIT_LITTLE)),
    "a_syntax_nobody_has": Case(declare_syntax(dx(), "1.2.3.4"), code="unsupported_transfer_syntax", told="send the"),
    "empty_offset_table": Case(dx(syntax=JPEG_LS, pixel_data=encapsulate([FRAME], has_bot=False))),
    "offset_table_of_nonsense": Case(dx(syntax=JPEG_LS, pixel_data=b"\xfe\xff\x00\xe0\x04\0\0\0" + b"\xff" * 4
                                        + encapsulate([FRAME], has_bot=False)[8:])),
    "no_fragment": Case(
        dx(syntax=JPEG_LS, pixel_data=b"\xfe\xff\x00\xe0\0\0\0\0"), code="undecodable", told="no codestream"
    ),
    "multi_frame": Case(
        dx(pixel_data=PICTURE.tobytes() * 9, NumberOfFrames=9), code="unsupported_pixels", told="single-frame"
    ),
    "colour": Case(dx(np.dstack([PICTURE] * 3))),
    "palette": Case(dx(**PALETTE)),
    "float": Case(
        dx(without=("PixelData",), FloatPixelData=PICTURE.astype("<f4").tobytes(), BitsAllocated=32),
        code="unsupported_pixels", told="integer pixels",
    ),
    "overlay_beside": Case(overlaid()),
    "overlay_in_the_upper_bits": Case(dx((picture(bits=12) | 0x8000), bits=12, **FULL)),
    "zero_bits": Case(dx(BitsAllocated=0, BitsStored=0), code="missing_element", told="BitsAllocated"),
    "zero_rows_compressed": Case(dx(syntax=JPEG_LS, Rows=0), code="missing_element", told="Rows"),
    "zero_rows": Case(dx(Rows=0), code="missing_element", told="Rows"),
    "no_pixels_at_all": Case(dx(without=("PixelData",)), QUARANTINED, "no_pixel_data", "Pixel Data"),
}  # fmt: skip


@pytest.fixture(scope="module")
def screener(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[StudyScreener]:
    """A workbench on a ledger of its own, which holds nothing yet."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(migrated_sqlite, home / "screening.sqlite")
    settings = Settings(home=home, min_free_mib=1)
    model = open_model(write_model(home / "brightness.onnx"), provider="cpu")
    database = Database(settings.database_url)
    with closing(database), closing(Decoder()) as decoder:
        yield StudyScreener(settings, database, FolderStore(settings.home / "store"), model, Clock(), decoder=decoder)


def screen_all(screener: StudyScreener, inbox: Path) -> dict[str, Registration]:
    """What became of every file below a folder, by its name; each study is screened, and the sums hold."""
    intake = Intake(screener.settings, screener.database, screener.store, screener.decoder)
    booked = {
        Path(file.path).name: intake.take_in(file, screener.clock(), is_final=True, is_settled=True, inbox=inbox)
        for file in files_in(inbox)
    }
    for offer in outbox.offer(screener.database, screener.clock()):
        assert screen_study(screener, offer.study_uid, screener.clock()) is None, "a bug, recorded on the study"
    account = reconcile(screener.database, screener.store)
    assert (account.holds, set(account.studies)) == (True, {"screened"})
    return booked


@pytest.fixture(scope="module")
def booked(screener: StudyScreener, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Registration]:
    """Every case and a healthy file after each, screened together; they lie in a folder that is called like a file."""
    inbox = tmp_path_factory.mktemp("inbox")
    (inbox / "study.dcm").mkdir()
    for number, (name, case) in enumerate(CASES.items()):
        for path, content in ((name, case.content), (f"{name}_neighbour", dx())):
            own = b"%s.%d" % (STUDY_UID[:-4].encode(), 100 + 2 * number + (content is not case.content))
            assert len(own) == len(STUDY_UID)
            alone = content.replace(STUDY_UID.encode(), own).replace(SOP_INSTANCE_UID.encode(), own[-11:])
            (inbox / "study.dcm" / path).write_bytes(alone)
    return screen_all(screener, inbox)


@pytest.mark.parametrize("name", CASES)
def test_it_ends_in_one_state_with_its_code_and_a_message(
    screener: StudyScreener, booked: dict[str, Registration], name: str
) -> None:
    case, odd = CASES[name], booked[name]
    assert (odd.state, odd.study_uid is not None) == (case.state, case.has_study)
    if case.state is QUARANTINED:
        (row,) = (file for file in quarantine(screener.database) if Path(file.path).name == name)
        assert row.code == case.code
        assert case.told in row.message
    if odd.study_uid is None:
        return
    (entry,) = (e for e in entries(screener.database, screener.store) if e.study_uid == odd.study_uid)
    assert [Path(source).name for source in entry.sources] == [name]
    if case.code is None:
        assert entry.probability is not None
        return
    assert (entry.verdict, entry.verdict_detail) == (Verdict.UNSCREENABLE, case.code)
    (image,) = show(screener.database, screener.store, odd.study_uid)["images"]
    assert any(case.told in note for note in image["notes"]), image["notes"]


def test_their_neighbours_are_screened(screener: StudyScreener, booked: dict[str, Registration]) -> None:
    healthy = {b.study_uid for name, b in booked.items() if name.endswith("_neighbour")}
    seen = {entry.study_uid: entry.probability for entry in entries(screener.database, screener.store)}
    assert len({seen[uid] for uid in healthy if uid}) == 1
    assert len(healthy) == len(CASES)


def test_nothing_is_written_where_a_uid_points_and_the_store_is_for_our_eyes_only(
    screener: StudyScreener, booked: dict[str, Registration], tmp_path: Path
) -> None:
    targets = ("../escaped", "../../../escaped", f"{tmp_path}/escaped", "objects/../escaped")
    for number, uid in enumerate(targets):
        uids = {"StudyInstanceUID": uid[-64:], "SeriesInstanceUID": uid[-64:], "SOPInstanceUID": f"{uid[-60:]}{number}"}
        (tmp_path / f"{number}.dcm").write_bytes(dx(**uids))
    assert {b.state for b in screen_all(screener, tmp_path).values()} == {FileState.ACCEPTED}
    assert len(booked) == 2 * len(CASES)
    for folder in (screener.settings.home, tmp_path):
        assert not list(folder.rglob("*escaped*"))
    for path in [Path(screener.store.name), *Path(screener.store.name).rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
        assert path.is_dir() or len(path.stem) == 64, "names are digests"
