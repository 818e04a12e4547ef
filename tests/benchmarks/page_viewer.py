"""The viewer in a real Chromium: when a large picture is seen and ready in full depth, and one step of a window.

    python -m tests.benchmarks.page_viewer [--images N] [--write]

Needs Chromium and its driver. Browser and page share the machine, over loopback.
"""

import statistics
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from selenium.webdriver import Chrome as Browser

from schema.database import Database
from schema.migrate import upgrade
from schema.vocabulary import Role
from tests.benchmarks.machine import Watch, machine, tell
from tests.benchmarks.page import SYNTAXES, large_image, served
from tests.browsers import CHROMIUM, DRIVER, browser, log_in, resize, script, until
from tests.reading_room import PASSWORD_HASH
from worker.ledger.reading_room import accounts
from worker.settings import Settings

RESULT = Path(__file__).parent / "results" / "page_viewer.json"

#: Notes, from the beginning of the navigation, when the half-size picture is drawn and when the whole depth is.
NOTE = """
    window.noted = {};
    const look = () => {
      const ready = document.getElementById("canvas")?.dataset.ready;
      if (ready && !(ready in window.noted)) window.noted[ready] = performance.now();
      if (ready !== "full") setTimeout(look, 1);
    };
    look();
"""

#: The time of each of so many steps, drawn on the canvas; reading a pixel back waits until it is.
STEPS = """
    const v = window.viewer, times = [];
    v[given[1]]();
    for (let n = 0; n < given[0]; n++) {
      const began = performance.now();
      v.windowBy(n % 2 ? 3 : -3, 1);
      v.context.getImageData(0, 0, 1, 1);
      times.push(performance.now() - began);
    }
    return { times, pixels: v.canvas.width * v.canvas.height };
"""

#: A screen on which the canvas has two million pixels.
SCREEN = (2000, 1340)


def told(times_ms: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    times_ms = sorted(times_ms)
    p95 = times_ms[int(0.95 * (len(times_ms) - 1))]
    return {"median_ms": round(statistics.median(times_ms), 1), "p95_ms": round(p95, 1), "n": len(times_ms)}


def noted(driver: Browser) -> dict[str, float]:
    """What was noted of the page that is there, once the whole depth is."""
    return dict(until(lambda: driver.execute_script("return window.noted?.full ? window.noted : null")))


def of_pictures(driver: Browser, address: str, images: int) -> dict[str, Any]:
    """Each study opened for the first time, which has the server decode it; and again, when its picture lies in the
    browser's cache, as after it was fetched ahead."""
    found: dict[str, Any] = {}
    for syntax in SYNTAXES:
        first: list[dict[str, float]] = []
        ahead: list[dict[str, float]] = []
        for times in (first, ahead):
            for number in range(images):
                driver.get(f"{address}/study/1.2.3.{len(syntax)}.{number}")
                times.append(noted(driver))
        found[syntax] = {
            "first_seen": told([each.get("half", each["full"]) for each in first]),
            "full": told([each["full"] for each in first]),
            "full_prefetched": told([each["full"] for each in ahead]),
        }
    return found


def processor_s(driver: Browser) -> float:
    """Processor time that the page's scripts have had, which other programs do not lengthen."""
    metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "ThreadTime"))


def of_steps(driver: Browser, rounds: int) -> dict[str, Any]:
    """One step of window and level, fitted to the screen and at 1:1."""
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    resize(driver, *SCREEN)
    driver.refresh()
    noted(driver)
    found: dict[str, Any] = {}
    for way in ("fit", "full"):
        script(driver, STEPS, 5, way)
        spent_s = processor_s(driver)
        steps = script(driver, STEPS, rounds, way)
        spent_s = processor_s(driver) - spent_s
        found[f"step_{way}"] = told(steps["times"]) | {
            "processor_ms": round(1e3 * spent_s / rounds, 1), "canvas_pixels": steps["pixels"]
        }  # fmt: skip
    return found


@click.command()
@click.option("--images", default=8, show_default=True, help="Of each transfer syntax.")
@click.option("--rounds", default=100, show_default=True, help="Steps of the window.")
@click.option("--write", is_flag=True, help="Keep the result.")
def main(images: int, rounds: int, write: bool) -> None:
    """Measure, print, and keep the result if asked."""
    if not (CHROMIUM and DRIVER):
        click.echo("not measured: no Chromium here (apt-get install chromium chromium-driver)")
        return
    watch = Watch()
    with tempfile.TemporaryDirectory() as name:
        settings = Settings(home=Path(name) / "home")
        settings.home.mkdir()
        upgrade(settings.database_url)
        with closing(Database(settings.database_url)) as database:
            accounts.add(database, "ann", Role.READER, PASSWORD_HASH, "bench", datetime.now(UTC))
            for syntax in SYNTAXES:
                for seed in range(images):
                    large_image(database, settings, syntax, seed)
        with served(settings) as (port, _), browser() as driver:
            log_in(driver, f"http://127.0.0.1:{port}", "ann")
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": NOTE})
            address = f"http://127.0.0.1:{port}"
            found = of_pictures(driver, address, images) | of_steps(driver, rounds)
    found["machine"] = machine(watch.share_taken_by_others(), ())
    tell(found, RESULT if write else None)


if __name__ == "__main__":
    main()
