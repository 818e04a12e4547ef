"""The pictures of the page: stored values and tables that give the display values exactly, thumbnails, heat maps."""

import base64
import gzip
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from schema.vocabulary import IdentifierMode, Role
from tests.acceptance.installation import wait_until
from tests.ledger import STUDY, Ledger, digest
from tests.phantoms import JPEG_2000_LOSSLESS, JPEG_LS, PHANTOMS, Phantom, dicom_file, window
from tests.reading_room import Answer, Page, running
from worker.imaging.display.pipeline import Codes
from worker.imaging.image_file import read_display, read_instance
from worker.ledger import audit
from worker.web.packing import Encoding, encoding_for, pack, planes

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def kind() -> str:
    """SQLite alone: no picture depends on the database."""
    return "sqlite"


@pytest.fixture
def page(desk: Ledger) -> Iterator[Page]:
    with running(desk) as page:
        yield page


def unpacked(body: bytes, facts: dict[str, int]) -> Codes:
    """What the page's script makes of packed pixels (static/pixels.js)."""
    shape = (facts["rows"], facts["columns"])
    n = shape[0] * shape[1]
    raw = np.frombuffer(body, np.uint8)
    if facts["bytes_per_value"] == 1:
        return np.cumsum(raw.reshape(shape), axis=0, dtype=np.uint8)
    differences = raw[:n].astype(np.uint16) | (raw[n:].astype(np.uint16) << 8)
    return np.cumsum(differences.reshape(shape), axis=0, dtype=np.uint16)


def read_png(content: bytes) -> NDArray[Any]:
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))


def body_of(answer: Answer) -> bytes:
    assert answer.status == 200, answer.text
    return gzip.decompress(answer.body) if answer.header("Content-Encoding") == "gzip" else answer.body


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("encoding", list(Encoding))
def test_packing_loses_nothing(bits: int, encoding: Encoding) -> None:
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 1 << bits, (37, 53))
    codes: Codes = drawn.astype(np.uint8) if bits == 8 else drawn.astype(np.uint16)
    packed = pack(codes, encoding)
    plain = gzip.decompress(packed) if encoding is Encoding.GZIP else imagecodecs.zstd_decode(packed)
    assert bytes(plain) == planes(codes)
    facts = {"rows": 37, "columns": 53, "bytes_per_value": codes.dtype.itemsize}
    assert (unpacked(planes(codes), facts) == codes).all()


def test_zstd_goes_to_browsers_that_take_it() -> None:
    assert encoding_for("gzip, deflate, br, zstd") is Encoding.ZSTD
    assert encoding_for("gzip;q=1, deflate") is Encoding.GZIP
    assert encoding_for("") is Encoding.GZIP


@pytest.mark.parametrize("phantom", PHANTOMS, ids=lambda phantom: phantom.name)
def test_the_page_gets_the_display_values_byte_for_byte(page: Page, phantom: Phantom) -> None:
    content = dicom_file(phantom.pixels(), bits=phantom.bits, **phantom.elements)
    name = page.receive(content)
    visitor = page.visitor("ann")
    facts = json.loads(visitor.get(f"/picture/{name}/facts").text)
    codes = unpacked(body_of(visitor.get(f"/picture/{name}/pixels")), facts)
    table = np.frombuffer(base64.b64decode(facts["as_sent"]), np.uint8)
    assert (table[codes] == read_display(content).pixels).all()


@pytest.mark.parametrize("syntax", [JPEG_2000_LOSSLESS, JPEG_LS])
def test_compressed_pixels_come_from_the_decoder_child(page: Page, syntax: str) -> None:
    pixels = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
    content = dicom_file(pixels, syntax, bits=12, **window(2048, 4096))
    name = page.receive(content)
    visitor = page.visitor("ann")
    facts = json.loads(visitor.get(f"/picture/{name}/facts").text)
    codes = unpacked(body_of(visitor.get(f"/picture/{name}/pixels")), facts)
    assert (codes == pixels).all()
    half = read_png(visitor.get(f"/picture/{name}/half").body)
    assert half.shape == (32, 24)


def test_a_thumbnail_has_128_px_and_browsers_may_keep_it(page: Page) -> None:
    name = page.receive(dicom_file(np.tile(np.arange(300, dtype=np.uint16), (600, 1)), bits=12))
    answer = page.visitor("ann").get(f"/picture/{name}/thumbnail")
    assert read_png(answer.body).shape == (128, 64)
    assert answer.header("Cache-Control").startswith("private")


def test_each_picture_is_in_the_audit_once_a_session(page: Page) -> None:
    name = page.receive(dicom_file(np.arange(64, dtype=np.uint16).reshape(8, 8), bits=12))
    visitor = page.visitor("ann")
    for part in ("thumbnail", "half", "pixels", "facts", "pixels"):
        assert visitor.get(f"/picture/{name}/{part}").status == 200
    page.visitor("ben").get(f"/picture/{name}/half")
    fetched = [(e.who, e.subject) for e in audit.trail(page.desk.database, page.desk.clock() - timedelta(days=1))
               if e.deed == "picture_fetched"]  # fmt: skip
    assert fetched == [("ann", name), ("ben", name)]


def test_a_picture_that_is_asked_for_in_three_parts_at_once_is_decoded_once(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = page.receive(dicom_file(np.arange(64, dtype=np.uint16).reshape(8, 8), bits=12))
    visitor, decoded = page.visitor("ann"), list[object]()
    read = page.context.decoder.read_stored
    began, parts = threading.Event(), ("half", "facts", "pixels")

    def slow(image: Any) -> Any:
        decoded.append(image)
        began.wait(120)
        return read(image)

    monkeypatch.setattr(page.context.decoder, "read_stored", slow)
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda part=part: statuses.append(visitor.get(f"/picture/{name}/{part}").status))
        for part in parts
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: page.context.fetched.weight == 1 and len(decoded) > 0, 120)
    began.set()
    for thread in threads:
        thread.join(120)
    assert statuses == [200] * 3
    assert len(decoded) == 1


def test_only_images_of_the_ledger_are_given_out(page: Page) -> None:
    stray = page.desk.store.put("objects", b"no image of a study")
    visitor = page.visitor("ann")
    for name in (stray, "0" * 64, "x", STUDY):
        assert visitor.get(f"/picture/{name}/pixels").status == 404
    kept = page.receive(dicom_file(np.arange(64, dtype=np.uint16).reshape(8, 8), bits=12))
    assert page.visitor("olga", Role.OPERATOR).get(f"/picture/{kept}/pixels").status == 403


def test_a_lost_file_says_so(page: Page) -> None:
    name = page.receive(dicom_file(np.arange(64, dtype=np.uint16).reshape(8, 8), JPEG_LS, bits=12))
    page.desk.store.path("objects", name).unlink()
    answer = page.visitor("ann").get(f"/picture/{name}/pixels")
    assert answer.status == 422
    assert "the stored file is gone" in answer.text
    assert str(page.desk.settings.home) not in answer.text


def test_a_heat_map_covers_its_image_and_is_in_the_audit(page: Page) -> None:
    desk = page.desk
    desk.receive()
    desk.screen(STUDY, 0.9)
    visitor = page.visitor("ann")
    opened = visitor.get(f"/study/{STUDY}")
    answer = visitor.get(f"/study/{STUDY}/heat/{digest('one')}")
    picture = read_png(answer.body)
    assert picture.shape == (512, 410, 4)  # of 100 x 80 px
    assert (picture[..., 3] == 127).all()  # the heat is 0.5 everywhere
    assert answer.header("Cache-Control") == "no-store"
    fields = {name: opened.field(name) for name in ("revision", "screening", "review")}
    visitor.post(f"/study/{STUDY}/verdict", fields | {"outcome": "pneumonia"})
    with desk.database.reading() as connection:
        assert bool(connection.exec_driver_sql("SELECT saw_heatmap FROM review").scalar())


def test_the_viewer_is_told_windows_spacing_and_never_a_name(page: Page) -> None:
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    elements = window(30, 60) | {
        "WindowCenter": [30, 20], "WindowWidth": [60, 10], "WindowCenterWidthExplanation": ["SOFT", "BONE"],
        "ImagerPixelSpacing": [0.2, 0.1], "PatientName": "DOE^JOHN", "PatientID": "P-9",
    }  # fmt: skip
    content = dicom_file(pixels, bits=12, **elements)
    name = page.receive(content)
    visitor = page.visitor("ann")
    facts = visitor.get(f"/picture/{name}/facts").text
    assert [w["label"] for w in json.loads(facts)["windows"]] == ["SOFT", "BONE"]
    assert json.loads(facts)["spacing"] == {"row_mm": 0.2, "column_mm": 0.1, "is_at_detector": True}
    assert "DOE" not in facts
    study = visitor.get(f"/study/{read_instance(content).study_uid}").text
    assert "DOE JOHN" in study
    assert "DOE" not in page.visitor("olga", Role.OPERATOR).get(f"/study/{read_instance(content).study_uid}").text


def test_no_name_is_shown_where_identifiers_are_pseudonyms(desk: Ledger) -> None:
    with running(desk, identifiers=IdentifierMode.PSEUDONYMS) as page:
        content = dicom_file(np.arange(64, dtype=np.uint16).reshape(8, 8), bits=12, PatientName="DOE^JOHN")
        page.receive(content)
        text = page.visitor("ann").get(f"/study/{read_instance(content).study_uid}").text
    assert "DOE" not in text


def test_the_pictures_that_are_kept_stay_within_their_bound(desk: Ledger) -> None:
    with running(desk, web_cache_mib=1) as page:
        visitor = page.visitor("ann")
        rng = np.random.default_rng(2)
        for _ in range(6):
            name = page.receive(dicom_file(rng.integers(0, 4096, (500, 500)).astype(np.uint16), bits=12))
            assert visitor.get(f"/picture/{name}/pixels").status == 200
            assert page.context.pictures.weight <= 2**20
