"""Every page, theme and width: no violation of WCAG 2.2 AA by axe-core, no sideways scrolling, an empty console."""

import gzip
import hashlib
from collections.abc import Iterator

import pytest

from tests.browsers import AXE, console, needs_chromium, violations
from tests.page_pictures import SHOTS, Room, browsers, each_look, room

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), needs_chromium]

#: What scrolls sideways would be cut off on a telephone; tables scroll within their own region.
OVERFLOW = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


WARNING = "Research use only. Not a medical device. A study that is not flagged may show pneumonia."

#: What must be seen and is not: on a screen of 1280 x 800 the whole picture with the whole form of the verdict, on a
#: telephone the picture, and instead of the form the words that it needs a larger screen.
UNSEEN = {
    "1280": """return ["canvas", "verdict"].filter((id) => {
        const box = document.getElementById(id)?.getBoundingClientRect();
        return box && (box.width < 200 || box.height < 200 || box.top < 0 || box.bottom > window.innerHeight);
      })""",
    "390": """const shown = (element) => element?.checkVisibility();
      const form = document.getElementById("verdict"), words = document.querySelector(".narrow-only");
      return [...(shown(form) ? ["too much: the form"] : []), ...(form && !shown(words) ? ["words"] : [])]""",
}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with room(tmp_path_factory.mktemp("room")) as at:
        yield at


def test_every_page_theme_and_width(at: Room) -> None:
    found = []
    with browsers(at, {shot.account for shot in SHOTS}) as opened:
        for driver, shot, theme, width in each_look(at, opened):
            where = f"{shot.name}, {theme}, {width} px"
            found += [f"{where}: {violation}" for violation in violations(driver)]
            if driver.find_element("css selector", ".warning").text != WARNING:
                found.append(f"{where}: no warning")
            found += [f"{where}: {name} is not seen" for name in driver.execute_script(UNSEEN[width])]
            if driver.execute_script(OVERFLOW) > 0:
                found.append(f"{where}: wider than the screen")
        found += [f"{name}: {line}" for name, driver in opened.items() for line in console(driver)]
    assert found == []


def test_the_rules_find_what_is_wrong(at: Room) -> None:
    """So that an empty list above means something."""
    with browsers(at, {None}) as opened:
        driver = opened[None]
        driver.execute_script("document.querySelector('label').remove()")
        assert any(found.startswith("label") for found in violations(driver))


def test_the_copy_of_axe_core_is_the_published_one() -> None:
    content = gzip.decompress(AXE.read_bytes())
    assert hashlib.sha256(content).hexdigest() == "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
