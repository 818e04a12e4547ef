"""Chromium without a screen for tests of the page, driven by its keyboard; what it logged and asked for; axe-core.

Needs Chromium and its driver (Debian: `chromium`, `chromium-driver`).
"""

import gzip
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver import Chrome as Browser
from selenium.webdriver.common.keys import Keys

from tests.reading_room import PASSWORD

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"
)

#: axe-core 4.14.1 of Deque Systems (MPL-2.0), as npm has it, compressed.
AXE = Path(__file__).parent / "data" / "axe.min.js.gz"

#: What axe-core tests: WCAG 2.2 to level AA.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

#: It may ask nobody but this machine, neither for pages nor for updates of its own.
ALONE = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip

#: Whether the viewer shows the whole image, on a canvas of the size that it has on the page.
WHOLE_IMAGE = """
    const canvas = window.viewer?.canvas;
    return canvas?.dataset.ready === "full" && canvas.height === Math.round(canvas.clientHeight * devicePixelRatio);
"""

#: Elements that are passed by at most before the one that is meant.
MOST_TABS = 120


@contextmanager
def browser(*arguments: str, width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """A browser with a profile of its own."""
    options = webdriver.ChromeOptions()
    shape = f"--window-size={width},{height}"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", shape, *ALONE, *arguments):
        options.add_argument(argument)
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Browser(options=options, service=webdriver.ChromeService(str(DRIVER), env=dict(os.environ)))
    driver.set_script_timeout(120)
    try:
        yield driver
    finally:
        driver.quit()


def log_in(driver: Browser, address: str, name: str, password: str = PASSWORD) -> None:
    """Log in by the keyboard; leads to the list."""
    driver.get(f"{address}/login")
    tab_to(driver, "#name")
    driver.switch_to.active_element.send_keys(name, Keys.TAB, password, Keys.ENTER)
    until(lambda: driver.find_elements("css selector", "nav"))


@contextmanager
def logged_in(address: str) -> Iterator[Callable[[str], Browser]]:
    """Opens browsers in which the named account has logged in; they are closed at the end."""
    with ExitStack() as stack:

        def opened(name: str) -> Browser:
            driver = stack.enter_context(browser())
            log_in(driver, address, name)
            return driver

        yield opened


@contextmanager
def opening(address: str, name: str) -> Iterator[Callable[[str], Browser]]:
    """Opens paths, each in a browser of its own in which the named account has logged in."""
    with logged_in(address) as browser_of:

        def opened(path: str) -> Browser:
            driver = browser_of(name)
            driver.get(f"{address}{path}")
            return driver

        yield opened


def until(check: Callable[[], Any], wait_s: float = 180.0) -> Any:
    """Wait until something holds."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail("waited in vain")


def until_elsewhere(driver: Browser, before: str) -> None:
    """Wait until the browser shows another page."""
    until(lambda: driver.current_url != before)


def press(driver: Browser, *keys: str) -> None:
    """Press keys wherever the focus is."""
    for key in keys:
        driver.switch_to.active_element.send_keys(key)


def tab_to(driver: Browser, selector: str) -> None:
    """Press Tab until the focus is on an element of this selector."""
    for _ in range(MOST_TABS):
        if driver.execute_script("return document.activeElement.matches(arguments[0])", selector):
            return
        driver.switch_to.active_element.send_keys(Keys.TAB)
    pytest.fail(f"Tab does not lead to {selector}")


def script(driver: Browser, code: str, *values: Any) -> Any:
    """The result of an asynchronous script; `given` are its values."""
    return driver.execute_async_script(
        f"const done = arguments[arguments.length - 1], given = arguments; (async () => {{ {code} }})()"
        ".then(done, (error) => done({ error: String(error) }))",
        *values,
    )


def console(driver: Browser) -> list[str]:
    """What the browser's console has, without the line that the browser itself writes of a form that was refused."""
    return [
        line["message"]
        for line in driver.get_log("browser")
        if "the server responded with a status of 4" not in line["message"]
    ]


def urls(driver: Browser) -> list[str]:
    """What was asked for since this was asked last."""
    events = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def answers(driver: Browser) -> list[dict[str, Any]]:
    """What was answered since this or `urls` was asked last."""
    events = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    return [e["params"]["response"] for e in events if e["method"] == "Network.responseReceived"]


def questions(driver: Browser) -> list[str]:
    """The dialogs that the browser opened since this or `urls` was asked last; its driver answers that it may leave."""
    events = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    return [e["params"]["type"] for e in events if e["method"] == "Page.javascriptDialogOpening"]


def requested(driver: Browser) -> set[str]:
    """Every address that was asked for, without path."""
    return {"/".join(url.split("/")[:3]) for url in urls(driver) if url.startswith("http")}


def violations(driver: Browser) -> list[str]:
    """What axe-core finds on the page as it is: rule and element."""
    driver.execute_script(gzip.decompress(AXE.read_bytes()).decode())
    found = script(
        driver, "return (await axe.run(document, { runOnly: given[0], resultTypes: ['violations'] })).violations", RULES
    )
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


def resize(driver: Browser, width: int, height: int) -> None:
    """Show the page as on a screen of this size, which may be narrower than a window can be."""
    shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
