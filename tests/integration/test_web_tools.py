"""The tools of the page in a real browser: what the viewer turns, measures and forgets, what keys leave alone, what the
list does by itself.

Needs Chromium and its driver; skipped where they are not.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from selenium.webdriver import Chrome as Browser
from selenium.webdriver.common.keys import Keys

from tests import browsers
from tests.browsers import WHOLE_IMAGE, needs_chromium, press, tab_to, until
from tests.ledger import STUDY, Ledger
from tests.phantoms import dicom_file, window
from tests.reading_room import Page, running
from worker.store import OBJECTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), needs_chromium]

ROWS, COLUMNS = 60, 80

#: Where a pixel of the image is on the screen, and what the pointer says there.
POINT = """
    const v = window.viewer, box = v.canvas.getBoundingClientRect();
    const at = ([x, y]) => {
      const point = v.transform().transformPoint({ x: x + 0.5, y: y + 0.5 }), ratio = box.width / v.canvas.width;
      return { clientX: box.left + point.x * ratio, clientY: box.top + point.y * ratio, pointerId: 1, bubbles: true };
    };
    v.canvas.setPointerCapture = () => null;
    const [kind, ...points] = arguments;
    if (kind === "drag") v.canvas.dispatchEvent(new PointerEvent("pointerdown", at(points[0])));
    v.canvas.dispatchEvent(new PointerEvent("pointermove", at(points.at(-1))));
    if (kind === "drag") v.canvas.dispatchEvent(new PointerEvent("pointerup", at(points[1])));
    return [document.getElementById("value").textContent, document.getElementById("note").textContent];
"""

#: Grey values of the rectangle of the canvas that shows the image.
SHOWN = """
    const v = window.viewer, m = v.transform(), ends = [[0, 0], [v.size.columns, v.size.rows]].map(
      ([x, y]) => m.transformPoint({ x, y }));
    const left = Math.min(ends[0].x, ends[1].x), top = Math.min(ends[0].y, ends[1].y);
    const width = Math.abs(ends[0].x - ends[1].x), height = Math.abs(ends[0].y - ends[1].y);
    const { data } = v.context.getImageData(left, top, width, height);
    return Array.from({ length: height }, (_, y) => Array.from({ length: width }, (_, x) => data[4 * (y * width + x)]));
"""

#: Whether every pixel of the canvas is black.
BLACK = """
    const { context, canvas } = window.viewer;
    return context.getImageData(0, 0, canvas.width, canvas.height).data.every((n, at) => at % 4 === 3 || n === 0);
"""

#: Height of the canvas as it is laid out, in CSS pixels.
HEIGHT = "return window.viewer.canvas.clientHeight"

CHOSEN = "return document.querySelector('input[name=outcome]:checked')?.value ?? null"


@pytest.fixture
def kind() -> str:
    """SQLite alone: browsers do not see the database."""
    return "sqlite"


@pytest.fixture
def page(desk: Ledger) -> Iterator[Page]:
    with running(desk) as page:
        page.account("ann")
        yield page


@pytest.fixture
def browser(page: Page) -> Iterator[Callable[[str], Browser]]:
    with browsers.opening(f"http://127.0.0.1:{page.port}", "ann") as opened:
        yield opened


def radiograph(number: int, **elements: Any) -> bytes:
    """One image of a study; no two of its pixels in a row or column are alike."""
    pixels = (np.add.outer(31 * np.arange(ROWS), 7 * np.arange(COLUMNS)) + number).astype(np.uint16)
    uids: dict[str, Any] = {
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": f"{STUDY}.1",
        "SOPInstanceUID": f"{STUDY}.1.{number}",
    }
    return dicom_file(pixels, bits=12, **uids, **window(1200, 2400), RescaleIntercept=-100, RescaleSlope=2, **elements)


def shown(driver: Browser) -> NDArray[np.uint8]:
    return np.array(driver.execute_script(SHOWN), np.uint8)


def test_the_viewer_turns_measures_reads_pixels_and_resets(page: Page, browser: Callable[[str], Browser]) -> None:
    page.receive(radiograph(1, ImagerPixelSpacing=[0.2, 0.2]))
    driver = browser(f"/study/{STUDY}")
    until(lambda: driver.execute_script(WHOLE_IMAGE))
    first = driver.execute_script("return window.viewer.canvas.toDataURL()")
    height = driver.execute_script(HEIGHT)
    click = {
        name: driver.find_element("id", name).click for name in ("full", "turn", "invert", "reset", "length", "fit")
    }
    click["full"]()
    upright = shown(driver)
    click["turn"]()
    click["full"]()
    assert (shown(driver) == np.rot90(upright, -1)).all()
    value, _ = driver.execute_script(POINT, "look", [10, 5])
    stored = 31 * 5 + 7 * 10 + 1
    assert value == f"10, 5: stored {stored}, modality {2 * stored - 100}"
    click["invert"]()
    assert (shown(driver) == 255 - np.rot90(upright, -1)).all()
    click["length"]()
    _, length = driver.execute_script(POINT, "drag", [10, 5], [40, 45])
    assert length == "10.0 mm at the detector", "50 pixels of 0.2 mm"
    assert driver.execute_script(HEIGHT) == height, "the picture moves when a note comes"
    click["length"]()
    driver.execute_script(POINT, "drag", [10, 5], [40, 45])
    assert driver.execute_script("return window.viewer.canvas.toDataURL()") != first
    click["reset"]()
    assert driver.execute_script("return window.viewer.canvas.toDataURL()") == first
    assert driver.find_element("id", "invert").get_attribute("aria-pressed") == "false"


def test_the_window_that_is_named_is_the_one_that_is_shown(page: Page, browser: Callable[[str], Browser]) -> None:
    page.receive(radiograph(1))
    driver = browser(f"/study/{STUDY}")
    until(lambda: driver.execute_script(WHOLE_IMAGE))
    named = "return document.getElementById('window').selectedOptions[0].textContent"
    body = driver.find_element("tag name", "body")
    assert driver.execute_script(named) == "as sent"
    body.send_keys("w", "w")
    assert driver.execute_script(named) == "full range"
    low, high = 31 * 0 + 1, 31 * (ROWS - 1) + 7 * (COLUMNS - 1) + 1
    driver.execute_script(POINT, "drag", [10, 5], [10, 5])  # by no pixel: the window that a drag begins with
    assert driver.execute_script(named) == "by hand"
    note = driver.find_element("id", "note")
    assert note.text == f"center {low + high - 100}, width {2 * (high - low)}", "that of the full range"
    driver.find_element("id", "reset").click()
    assert (driver.execute_script(named), note.text) == ("as sent", "")


def test_the_picture_moves_by_keyboard_and_grows_under_the_pointer(
    page: Page, browser: Callable[[str], Browser]
) -> None:
    page.receive(radiograph(1))
    driver = browser(f"/study/{STUDY}")
    until(lambda: driver.execute_script(WHOLE_IMAGE))
    canvas = driver.find_element("id", "canvas")
    state = (
        "const { center, window: w } = window.viewer; return [center.x, center.y, w?.center ?? null, w?.width ?? null]"
    )
    tab_to(driver, "#canvas")
    before = driver.execute_script(state)
    press(driver, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    moved = driver.execute_script(state)
    assert (moved[0] > before[0], moved[1] > before[1], moved[2]) == (True, True, None)
    canvas.send_keys(Keys.SHIFT, Keys.ARROW_RIGHT)
    canvas.send_keys(Keys.SHIFT, Keys.ARROW_DOWN)
    after = driver.execute_script(state)
    assert (after[:2], after[2] > 1200, after[3] > 2400) == (moved[:2], True, True)
    driver.find_element("id", "fit").click()
    under = driver.execute_script("""
        const { viewer } = window, box = viewer.canvas.getBoundingClientRect(), where = {
          clientX: Math.round(box.left + box.width / 3), clientY: Math.round(box.top + box.height / 4),
          deltaY: -1, cancelable: true };
        const before = viewer.at(where), zoom = viewer.zoom;
        viewer.canvas.dispatchEvent(new WheelEvent("wheel", where));
        const after = viewer.at(where);
        return [viewer.zoom / zoom, after.x - before.x, after.y - before.y];
    """)
    assert under == pytest.approx([1.25, 0, 0], abs=1e-6)


def test_a_length_is_measured_by_two_clicks_too(page: Page, browser: Callable[[str], Browser]) -> None:
    page.receive(radiograph(1, ImagerPixelSpacing=[0.2, 0.2]))
    driver = browser(f"/study/{STUDY}")
    until(lambda: driver.execute_script(WHOLE_IMAGE))
    driver.find_element("id", "length").click()
    driver.execute_script(POINT, "drag", [10, 5], [10, 5])
    driver.execute_script(POINT, "look", [20, 25])
    _, length = driver.execute_script(POINT, "drag", [40, 45], [40, 45])
    assert length == "10.0 mm at the detector", "50 pixels of 0.2 mm"
    _, length = driver.execute_script(POINT, "look", [60, 10])
    assert length == "10.0 mm at the detector", "the second click ends the line"


def test_an_image_that_cannot_be_shown_leaves_no_other_in_its_place(
    page: Page, browser: Callable[[str], Browser]
) -> None:
    page.receive(radiograph(1), "/inbox/one.dcm")
    lost = page.receive(radiograph(2), "/inbox/two.dcm")
    page.desk.store.path(OBJECTS, lost).unlink()
    driver = browser(f"/study/{STUDY}")
    until(lambda: driver.execute_script(WHOLE_IMAGE))
    assert not driver.find_element("id", "length").is_displayed(), "no spacing is known"
    driver.find_element("id", "invert").click()
    assert not driver.execute_script(BLACK)
    driver.execute_script(
        "const s = document.getElementById('image'); s.selectedIndex = 1; s.dispatchEvent(new Event('change'))"
    )
    note = driver.find_element("id", "note")
    until(lambda: note.text.startswith("This image cannot be shown"))
    assert driver.execute_script(BLACK)


def test_leaving_the_page_of_a_study_lets_go_of_it(page: Page, browser: Callable[[str], Browser]) -> None:
    page.receive(radiograph(1))
    driver = browser(f"/study/{STUDY}")
    until(lambda: driver.execute_script(WHOLE_IMAGE))
    assert page.desk.count("hold") == 1
    driver.get(f"http://127.0.0.1:{page.port}/")
    until(lambda: page.desk.count("hold") == 0)


def test_keys_leave_alone_what_is_repeated_or_has_a_modifier(page: Page, browser: Callable[[str], Browser]) -> None:
    page.receive(radiograph(1))
    driver = browser(f"/study/{STUDY}")
    until(lambda: driver.execute_script(WHOLE_IMAGE))
    pressed = "document.body.dispatchEvent(new KeyboardEvent('keydown', { bubbles: true, ...arguments[0] }))"
    for how in ("repeat", "altKey", "metaKey", "ctrlKey"):
        driver.execute_script(pressed, {"key": "p", how: True})
        assert driver.execute_script(CHOSEN) is None, how
    driver.execute_script(pressed, {"key": "p"})
    assert driver.execute_script(CHOSEN) == "pneumonia"
    driver.execute_script("document.getElementById('verdict').addEventListener('submit', (e) => e.preventDefault());")
    driver.execute_script("document.addEventListener('submit', () => { window.sent = true; })")
    for how in ("repeat", "altKey", "metaKey", "shiftKey"):
        driver.execute_script(pressed, {"key": "Enter", how: True})
        assert driver.execute_script("return window.sent ?? null") is None, how
    driver.execute_script(pressed, {"key": "Enter"})
    assert driver.execute_script("return window.sent") is True


def test_a_minute_without_input_takes_in_what_is_new(page: Page, browser: Callable[[str], Browser]) -> None:
    page.receive(radiograph(1))
    driver = browser("/")
    page.desk.receive("1.2.826.77", content="new", accession_number="NEW")
    news = driver.find_element("id", "news")
    until(news.is_displayed)
    assert len(driver.find_elements("css selector", "tr[data-uid]")) == 1
    driver.execute_script("const clock = Date.now; Date.now = () => clock() + 61000")
    until(lambda: len(driver.find_elements("css selector", "tr[data-uid]")) == 2)
    assert not news.is_displayed()


def test_a_page_without_an_answer_says_so_across_its_top(page: Page, browser: Callable[[str], Browser]) -> None:
    page.receive(radiograph(1))
    for path in ("/", f"/study/{STUDY}"):
        driver = browser(path)
        stale = driver.find_element("id", "stale")
        assert not stale.is_displayed()
        driver.execute_script("window.fetch = () => Promise.reject(new TypeError('away'))")
        until(stale.is_displayed)
        assert stale.text == "This page is out of date: no answer from the server."
        assert stale.size["width"] == driver.execute_script("return document.documentElement.clientWidth")
