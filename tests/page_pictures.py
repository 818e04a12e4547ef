"""Pictures of the page with the sample studies and the shipped model, taken again by one command.

python -m tests.page_pictures                 the two of README and READING, into deploy/pictures
python -m tests.page_pictures --all FOLDER    every page, theme, width, and print, to be looked at
"""

import base64
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
from selenium.webdriver import Chrome as Browser

from schema.vocabulary import Process
from tests.acceptance.installation import SAMPLES, Installation
from tests.browsers import WHOLE_IMAGE, browser, log_in, press, resize, until
from tests.web_process import add_accounts, database_of, serving
from worker.ledger.clocks import now
from worker.ledger.operations import signs_of_life

PICTURES = Path(__file__).parents[1] / "deploy" / "pictures"
QUALITY = 82

#: Width and height of a screen, and of a telephone.
SIZES = {"1280": (1280, 800), "390": (390, 844)}

#: A sheet of paper, at 96 pixels an inch.
A4 = (794, 1123)

THUMBNAILS = "return [...document.images].every((image) => image.complete || image.getBoundingClientRect().top > 900)"


@dataclass(frozen=True)
class Shot:
    """One page as somebody sees it."""

    name: str
    account: str | None
    path: str  #: `{flagged}` and the like are the paths of studies
    keys: str = ""  #: pressed when it is there


SHOTS = (
    Shot("login", None, "/login"),
    Shot("list", "ann", "/"),
    Shot("list-none", "ann", "/?show=conflict"),
    Shot("list-read", "ann", "/?show=read"),
    Shot("list-operator", "olga", "/"),
    Shot("study", "ann", "{flagged}"),
    Shot("study-heat", "ann", "{flagged}", "h"),
    Shot("study-held", "ben", "{flagged}"),
    Shot("study-unscreenable", "ann", "{unscreenable}"),
    Shot("study-operator", "olga", "{flagged}"),
    Shot("study-read", "ada", "{read}"),
    Shot("help", "ann", "/", "?"),
    Shot("quarantine", "ann", "/quarantine"),
    Shot("audit", "ada", "/audit"),
    Shot("unknown", "ann", "/study/1.2.3"),
)


@dataclass(frozen=True)
class Room:
    """A page in use: its address, and the paths of a few studies."""

    address: str
    studies: dict[str, str]


@contextmanager
def room(folder: Path) -> Iterator[Room]:
    """The sample studies, screened, with a verdict, behind a running page."""
    site = Installation(folder / "home")
    site.run("screen", SAMPLES, patience_s=600)
    listed = site.json("worklist")
    of = {entry["verdict"]: entry["study_uid"] for entry in reversed(listed)}
    site.run("review", of["not_flagged"], "--verdict", "no_pneumonia", "--reader", "Dr Vera")
    add_accounts(site)
    database = database_of(site)
    for process in (Process.WATCHER, Process.WORKER):  # as where `worker run` goes on
        signs_of_life.record(database, process, "here", now())
    database.close()
    names = {"flagged": "flagged", "unscreenable": "unscreenable", "read": "not_flagged"}
    with serving(site, folder / "web.log") as address:
        yield Room(address, {name: f"/study/{of[verdict]}" for name, verdict in names.items()})


def show(driver: Browser, at: Room, shot: Shot, theme: str, size: tuple[int, int]) -> None:
    """Open a page in a theme, and wait until its pictures are there."""
    driver.add_cookie({"name": "theme", "value": theme, "sameSite": "Strict"})
    resize(driver, *size)
    driver.get(at.address + shot.path.format(**at.studies))
    until(lambda: driver.execute_script("return document.readyState === 'complete'"))
    if driver.find_elements("id", "canvas"):
        until(lambda: driver.execute_script(WHOLE_IMAGE))
    until(lambda: driver.execute_script(THUMBNAILS))
    press(driver, *shot.keys)
    if shot.keys == "h":
        until(lambda: driver.execute_script("return window.viewer.heat !== null"))


def picture(driver: Browser, *, whole: bool = False) -> bytes:
    """A PNG of what is seen, or of the whole length of the page."""
    asked = {"format": "png", "captureBeyondViewport": whole}
    return base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", asked)["data"])


@contextmanager
def browsers(at: Room, names: set[str | None]) -> Iterator[dict[str | None, Browser]]:
    """A browser for each account, logged in."""
    with ExitStack() as stack:
        opened = {}
        for name in sorted(names, key=str):
            opened[name] = driver = stack.enter_context(browser())
            if name is None:
                driver.get(f"{at.address}/login")
            else:
                log_in(driver, at.address, name)
        yield opened


def each_look(at: Room, opened: Mapping[str | None, Browser]) -> Iterator[tuple[Browser, Shot, str, str]]:
    """Show every page in both themes and widths: browser, page, theme and width of each."""
    for shot in SHOTS:
        for theme in ("light", "dark"):
            for width, size in SIZES.items():
                show(opened[shot.account], at, shot, theme, size)
                yield opened[shot.account], shot, theme, width


def everything(at: Room, out: Path) -> None:
    """Every page in both themes and widths, and in print."""
    out.mkdir(parents=True, exist_ok=True)
    with browsers(at, {shot.account for shot in SHOTS}) as opened:
        for driver, shot, theme, width in each_look(at, opened):
            name = f"{shot.name}-{theme}-{width}.png"
            (out / name).write_bytes(picture(driver, whole=width == "390"))
            click.echo(name)
        for shot in SHOTS:
            driver = opened[shot.account]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
            show(driver, at, shot, "dark", A4)
            (out / f"{shot.name}-print.png").write_bytes(picture(driver, whole=True))
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen"})


def for_the_pages(at: Room) -> None:
    """The list in the light theme and a flagged study with its heat map in the dark one."""
    wanted = {"page-list": (SHOTS[1], "light"), "page-study": (SHOTS[6], "dark")}
    with browsers(at, {"ann"}) as opened:
        for name, (shot, theme) in wanted.items():
            show(opened["ann"], at, shot, theme, SIZES["1280"])
            pixels = cv2.imdecode(np.frombuffer(picture(opened["ann"]), np.uint8), cv2.IMREAD_COLOR)
            assert pixels is not None
            cv2.imwrite(str(PICTURES / f"{name}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            click.echo(PICTURES / f"{name}.jpg")


@click.command()
@click.option("--all", "out", type=click.Path(path_type=Path), help="Every page, theme and width, into this folder.")
def main(out: Path | None) -> None:
    """Screen the samples, serve the page, and take its pictures."""
    with tempfile.TemporaryDirectory() as folder, room(Path(folder)) as at:
        if out is None:
            for_the_pages(at)
        else:
            everything(at, out)


if __name__ == "__main__":
    main()
