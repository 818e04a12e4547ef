"""The page in a real browser: pictures byte for byte, a day of two readers by keyboard, links from elsewhere.

Needs Chromium and its driver (Debian: `chromium`, `chromium-driver`); skipped where they are not.
"""

import base64
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray
from selenium.webdriver import Chrome as Browser
from selenium.webdriver.common.keys import Keys

from tests import browsers
from tests.browsers import (
    WHOLE_IMAGE,
    console,
    log_in,
    needs_chromium,
    press,
    requested,
    resize,
    script,
    tab_to,
    until,
    until_elsewhere,
    urls,
)
from tests.certificates import certificate
from tests.ledger import Ledger
from tests.phantoms import PHANTOMS, dicom_file, rescale, window
from tests.reading_room import Page, running
from worker.errors import Rejected
from worker.imaging.display.pipeline import VoiFunction, Window, to_8_bits, window_values
from worker.imaging.image_file import read_display, read_instance

SAMPLES = Path(__file__).parents[1] / "data" / "inbox"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), needs_chromium]


@pytest.fixture
def kind() -> str:
    """SQLite alone: browsers do not see the database."""
    return "sqlite"


@pytest.fixture
def page(desk: Ledger) -> Iterator[Page]:
    with running(desk) as page:
        for name in ("ann", "ben"):
            page.account(name)
        yield page


@pytest.fixture
def browser(page: Page) -> Iterator[Callable[[str], Browser]]:
    """Opens browsers in which somebody has logged in."""
    with browsers.logged_in(f"http://127.0.0.1:{page.port}") as opened:
        yield opened


#: Opens an image, shows it at 1:1, and reads the pixels of the canvas back.
READ = """
    const v = window.viewer; await v.open(given[0]);
    if (v.canvas.dataset.ready !== "full") return { error: document.getElementById("note").textContent };
    v.resize(); v.full(); if (given[1]) v.setWindow(given[1][0], given[1][1]);
    const { columns, rows } = v.size, canvas = v.canvas, m = v.transform();
    const out = new Uint8Array(columns * rows);
    for (let top = 0; top < rows; top += 300) for (let left = 0; left < columns; left += 300) {
      const w = Math.min(300, columns - left), h = Math.min(300, rows - top);
      v.center = { x: left + w / 2, y: top + h / 2 }; v.draw();
      const t = v.transform(), data = v.context.getImageData(t.e + left, t.f + top, w, h).data;
      for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) {
        const at = 4 * (y * w + x);
        if (data[at] !== data[at + 1] || data[at] !== data[at + 2]) return { error: "colour" };
        out[(top + y) * columns + left + x] = data[at];
      }
    }
    let text = "";
    for (let i = 0; i < out.length; i += 30000) text += String.fromCharCode(...out.subarray(i, i + 30000));
    return { rows, columns, pixels: btoa(text) };
"""


def canvas(driver: Browser, digest: str, window: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    got = script(driver, READ, digest, window)
    assert "error" not in got, got
    return np.frombuffer(base64.b64decode(got["pixels"]), np.uint8).reshape(got["rows"], got["columns"])


def test_the_canvas_equals_the_display_values_byte_for_byte(page: Page, browser: Callable[[str], Browser]) -> None:
    contents = {p.name: dicom_file(p.pixels(), bits=p.bits, **p.elements) for p in PHANTOMS}
    contents |= {path.name: path.read_bytes() for path in sorted(SAMPLES.iterdir())}
    readable = {}
    for name, content in contents.items():
        try:
            readable[name] = (content, read_display(content).pixels)
        except Rejected:
            continue
    assert len(readable) > len(PHANTOMS) + 12
    digests = {name: page.receive(content, f"/inbox/{name}") for name, (content, _) in readable.items()}
    driver = browser("ann")
    driver.set_script_timeout(120)
    driver.get(f"http://127.0.0.1:{page.port}/study/{read_instance(contents['anna_explicit.dcm']).study_uid}")
    until(lambda: driver.execute_script(WHOLE_IMAGE))
    for name, (_, expected) in readable.items():
        shown = canvas(driver, digests[name])
        assert shown.shape == expected.shape, name
        assert (shown == expected).all(), name


@pytest.mark.parametrize("elements", [
    {}, {"PhotometricInterpretation": "MONOCHROME1"}, rescale(-2, 100), window(1000, 2000, "SIGMOID"),
    window(1000, 2000, "LINEAR_EXACT"),
])  # fmt: skip
def test_a_window_follows_the_formula_of_the_standard(
    page: Page, browser: Callable[[str], Browser], elements: dict[str, Any]
) -> None:
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    content = dicom_file(pixels, bits=12, **(window(2048, 4096) | elements))
    name = page.receive(content)
    driver = browser("ann")
    driver.set_script_timeout(120)
    driver.get(f"http://127.0.0.1:{page.port}/study/{read_instance(content).study_uid}")
    until(lambda: driver.execute_script(WHOLE_IMAGE))
    function = VoiFunction(elements.get("VOILUTFunction", "LINEAR"))
    modality = pixels.astype(float) * elements.get("RescaleSlope", 1) + elements.get("RescaleIntercept", 0)
    for center, width in ((500.0, 300.0), (-1000.0, 5000.0), (2048.0, 2.0)):
        levels = window_values(modality, Window(center, width, function))
        wanted = to_8_bits(1.0 - levels if "PhotometricInterpretation" in elements else levels)
        shown = canvas(driver, name, (center, width))
        assert np.abs(shown.astype(int) - wanted).max() <= 1, (center, width)


def filled(page: Page) -> list[str]:
    """The samples that can be shown, screened without a model."""
    uids = []
    for path in sorted(SAMPLES.glob("*.dcm")):
        content = path.read_bytes()
        try:
            read_display(content)
        except Rejected:
            continue
        uid = read_instance(content).study_uid
        page.receive(content, f"/inbox/{path.name}")
        if uid not in uids:
            uids.append(uid)
    for n, uid in enumerate(uids):
        page.desk.screen(uid, 0.95 - 0.1 * n)
    return uids


def test_two_readers_read_everything_by_keyboard_alone(page: Page, browser: Callable[[str], Browser]) -> None:
    uids = filled(page)
    ann, ben = browser("ann"), browser("ben")
    outcomes = "pou"  # uncertain stays on the list, and is not offered again to its reader
    turns = 0
    for driver in (ann, ben):
        press(driver, "n")
        until_elsewhere(driver, f"http://127.0.0.1:{page.port}/")
    while turns < 3 * len(uids) and any("/study/" in driver.current_url for driver in (ann, ben)):
        for driver in (ann, ben):
            if "/study/" not in driver.current_url:
                continue
            before = driver.current_url
            driver.find_element("tag name", "body").send_keys("c")
            press(driver, f"read {turns} pou")  # keys do nothing in a field
            driver.switch_to.active_element.send_keys(Keys.TAB)
            driver.find_element("tag name", "body").send_keys(outcomes[turns % 3])
            driver.find_element("tag name", "body").send_keys(Keys.CONTROL, Keys.ENTER)
            until_elsewhere(driver, before)
            turns += 1
    with page.desk.database.reading() as connection:
        rows = connection.execute(sa.text(
            "SELECT study.study_uid, outcome, reader, comment FROM review JOIN study ON study.id = review.study_id"
        )).all()  # fmt: skip
    firsts = {row.study_uid for row in rows}
    assert firsts == set(uids)
    assert {row.reader for row in rows} == {"ann", "ben"}
    assert all(row.comment.startswith("read ") and row.comment.endswith(" pou") for row in rows)
    for uid in uids:  # nobody read a study twice, and only an uncertain one was read by both
        mine = [row for row in rows if row.study_uid == uid]
        assert len(mine) == len({row.reader for row in mine})
        assert len(mine) == 1 or "uncertain" in {row.outcome for row in mine}
    for driver in (ann, ben):
        assert console(driver) == []
        assert requested(driver) == {f"http://127.0.0.1:{page.port}"}


def test_one_takes_over_and_one_loses_a_race_but_no_text(page: Page, browser: Callable[[str], Browser]) -> None:
    first, second = filled(page)[:2]
    ann, ben = browser("ann"), browser("ben")
    base = f"http://127.0.0.1:{page.port}/study/"
    ann.get(base + first)
    ben.get(base + first)
    assert "ann reads this study" in ben.find_element("tag name", "main").text
    summary = ben.find_element("xpath", "//summary[text()='Take over']")
    summary.send_keys(Keys.ENTER)
    ben.find_element("xpath", "//button[contains(., 'take it over')]").send_keys(Keys.ENTER)
    until(lambda: ben.find_elements("id", "verdict"))
    until(lambda: ann.find_element("id", "lost").is_displayed())
    ben.get(base + second)
    body = ben.find_element("tag name", "body")
    body.send_keys("c")
    press(ben, "a finding that must not be lost")
    page.desk.receive(second, f"{second}.9.9"[:64], "late")
    press(ben, Keys.TAB)
    ben.find_element("tag name", "body").send_keys("p", Keys.ENTER)
    until(lambda: ben.find_elements("class name", "changed"))
    assert ben.find_element("id", "comment").get_attribute("value") == "a finding that must not be lost"
    assert ben.find_element("css selector", "input[value=pneumonia]").is_selected()
    ben.find_element("tag name", "body").send_keys(Keys.ENTER)
    until(lambda: second not in ben.current_url)
    with page.desk.database.reading() as connection:
        assert connection.execute(sa.text("SELECT comment FROM review")).scalar() == "a finding that must not be lost"


def test_no_single_key_writes_a_verdict_and_keys_can_be_turned_off(
    page: Page, browser: Callable[[str], Browser]
) -> None:
    uid = filled(page)[0]
    driver = browser("ann")
    driver.get(f"http://127.0.0.1:{page.port}/study/{uid}")
    body = driver.find_element("tag name", "body")
    chosen = "return document.querySelector('input[name=outcome]:checked')?.value ?? null"
    for key in "poux":
        body.send_keys(key)
    assert driver.execute_script(chosen) == "not_assessable"
    assert page.desk.count("review") == 0
    body.send_keys("?")
    assert driver.find_element("id", "help-table").is_displayed()
    body.send_keys("p")  # a dialog is open
    assert driver.execute_script(chosen) == "not_assessable"
    press(driver, Keys.ESCAPE)
    driver.find_element("id", "keys").send_keys(Keys.ENTER)
    body.send_keys("p")
    assert driver.execute_script(chosen) == "not_assessable"
    driver.refresh()
    driver.find_element("tag name", "body").send_keys("p")
    assert driver.execute_script(chosen) is None


def test_the_heat_map_is_off_until_it_is_asked_for(page: Page, browser: Callable[[str], Browser]) -> None:
    uid = filled(page)[0]
    driver = browser("ann")
    driver.get(f"http://127.0.0.1:{page.port}/study/{uid}")
    until(lambda: driver.execute_script(WHOLE_IMAGE))
    words = driver.find_element("id", "heat-words")
    assert not words.is_displayed()
    seen = sa.text("SELECT COUNT(*) FROM audit WHERE deed = 'heatmap_shown'")
    with page.desk.database.reading() as connection:
        assert connection.execute(seen).scalar() == 0
    where = "const box = window.viewer.canvas.getBoundingClientRect(); return [box.x, box.y, box.width, box.height]"
    without = driver.execute_script(where)
    driver.find_element("tag name", "body").send_keys("h")
    until(words.is_displayed)
    assert driver.execute_script(where) == without, "the picture stays where it is: one compares the two"
    assert words.text == "relative evidence, not a location of disease"
    with page.desk.database.reading() as connection:
        assert connection.execute(seen).scalar() == 1


def test_no_column_of_the_list_is_cut_off(page: Page, browser: Callable[[str], Browser]) -> None:
    """640 is a screen of 1280 at 200 %."""
    filled(page)
    driver = browser("ann")
    for width in (1280, 1101, 1024, 853, 640, 420):
        resize(driver, width, 800)
        cut = driver.execute_script("const t = document.querySelector('.wide'); return t.scrollWidth - t.clientWidth")
        assert cut == 0, f"{cut} px at a width of {width}"


def test_the_next_picture_is_there_before_its_study_is_opened(page: Page, browser: Callable[[str], Browser]) -> None:
    filled(page)
    driver = browser("ann")
    press(driver, "n")
    until(lambda: "/study/" in driver.current_url)
    pixels: set[str] = set()

    def both() -> bool:
        pixels.update(url for url in urls(driver) if url.endswith("/pixels"))
        return len(pixels) == 2

    until(both)
    opened = sa.text("SELECT COUNT(DISTINCT study_uid) FROM audit WHERE deed = 'shown'")
    with page.desk.database.reading() as connection:
        assert connection.execute(opened).scalar() == 1


def test_what_comes_in_does_not_move_the_row_under_the_cursor(page: Page, browser: Callable[[str], Browser]) -> None:
    filled(page)
    driver = browser("ann")
    body = driver.find_element("tag name", "body")
    body.send_keys("j")
    press(driver, "j", "j")
    chosen = driver.find_element("css selector", "tr.selected").get_attribute("data-uid")
    order = "return [...document.querySelectorAll('tr[data-uid]')].map((row) => row.dataset.uid)"
    before = driver.execute_script(order)
    page.desk.receive("1.2.826.77", content="new", accession_number="NEW")
    page.desk.screen("1.2.826.77", 0.99)
    news = driver.find_element("id", "news")
    until(lambda: news.text.startswith("1 new above"))
    assert driver.execute_script(order) == before
    press(driver, "r")
    until(lambda: driver.execute_script(order)[0] == "1.2.826.77")
    assert driver.find_element("css selector", "tr.selected").get_attribute("data-uid") == chosen
    assert driver.execute_script("return document.activeElement.closest('tr')?.dataset.uid") == chosen


def test_a_link_from_another_site_opens_the_study(page: Page, browser: Callable[[str], Browser]) -> None:
    """A strict cookie does not come with such a link; our page asks once more, and then it does."""
    page.desk.receive(accession_number="A-1")
    target = f"http://127.0.0.1:{page.port}/open?accession=A-1"

    class Foreign(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f'<a id="link" href="{target}">study</a>'.encode())

        def log_message(self, *_: object) -> None:
            return

    driver = browser("ann")
    with HTTPServer(("127.0.0.1", 0), Foreign) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        driver.get(f"http://localhost:{server.server_port}/")
        driver.find_element("id", "link").click()
        until(lambda: "/study/" in driver.current_url)
        server.shutdown()


#: Whether the browser itself still has this answer, without asking anybody.
KEPT = """
    try {
      return (await fetch(given[0], { cache: "only-if-cached", mode: "same-origin" })).ok;
    } catch {
      return false;
    }
"""


def test_at_log_out_the_browser_forgets_the_pictures(page: Page, browser: Callable[[str], Browser]) -> None:
    content = (SAMPLES / "anna_explicit.dcm").read_bytes()
    digest = page.receive(content)
    driver = browser("ann")
    driver.get(f"http://127.0.0.1:{page.port}/study/{read_instance(content).study_uid}")
    until(lambda: driver.execute_script(WHOLE_IMAGE))
    driver.execute_script("localStorage.setItem('left', 'behind')")
    pictures = [f"/picture/{digest}/{part}" for part in ("pixels", "facts", "half")]
    assert all(script(driver, KEPT, picture) for picture in pictures)
    tab_to(driver, "form[action='/logout'] button")
    press(driver, Keys.ENTER)
    until(lambda: driver.current_url.endswith("/login"))
    assert not any(script(driver, KEPT, picture) for picture in pictures)
    assert driver.execute_script("return localStorage.getItem('left')") is None


def test_over_tls_pictures_come_by_zstd_and_are_exact(desk: Ledger, tmp_path: Path) -> None:
    file, key = certificate(tmp_path, "page")
    content = (SAMPLES / "greta_monochrome1_12_bit.dcm").read_bytes()
    with (
        running(desk, web_tls_certificate=str(file), web_tls_key=str(key)) as page,
        browsers.browser("--ignore-certificate-errors") as driver,
    ):
        page.account("ann")
        digest = page.receive(content)
        address = f"https://127.0.0.1:{page.port}"
        log_in(driver, address, "ann")
        (cookie,) = [each for each in driver.get_cookies() if "session" in each["name"]]
        assert (cookie["name"], cookie["secure"], cookie["httpOnly"]) == ("__Host-session", True, True)
        driver.get(f"{address}/study/{read_instance(content).study_uid}")
        until(lambda: driver.execute_script(WHOLE_IMAGE))
        answers = {answer["url"]: answer for answer in browsers.answers(driver)}
        pixels = answers[f"{address}/picture/{digest}/pixels"]
        headers = {name.lower(): value for name, value in pixels["headers"].items()}
        assert headers["content-encoding"] == "zstd"
        assert pixels["securityDetails"]["protocol"] in ("TLS 1.2", "TLS 1.3")
        assert (canvas(driver, digest) == read_display(content).pixels).all()
        assert console(driver) == []
