"""What the page does by itself in a real browser: news moves no row, other tabs hear of a log-out, nothing typed is
lost to a server that is away.

Needs Chromium and its driver; skipped where they are not.
"""

import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from selenium.webdriver import Chrome as Browser
from selenium.webdriver.common.keys import Keys

from schema.vocabulary import ReviewOutcome
from tests import browsers
from tests.browsers import console, needs_chromium, press, questions, resize, tab_to, until, until_elsewhere
from tests.ledger import Ledger
from tests.reading_room import Page, running
from worker.ledger import decisions
from worker.ledger.reading_room import accounts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), needs_chromium]

UIDS = [f"1.2.826.9.{n:03d}" for n in range(60)]

#: More than any other: its study is the first of the list.
FIRST = 0.999

TOP = "return document.querySelector('tr.selected').getBoundingClientRect().top"
SHOWN = "return [...document.querySelectorAll('tr[data-uid]')].map((row) => row.dataset.uid)"
FOCUS = "return document.activeElement.closest('tr')?.dataset.uid ?? null"

#: The server is away: a request has no answer, until `back`.
AWAY = "window.real = window.fetch; window.fetch = () => Promise.reject(new TypeError('away'))"
BACK = "window.fetch = window.real"

#: Pages below the first one are answered, or not, only when the test says so.
PAGES_WAIT = """
    const real = window.fetch, waits = new Promise((answer, fail) => {
      window.answered = () => { window.fetch = real; answer(); };
      window.unanswered = () => { window.fetch = real; fail(new TypeError("away")); };
    });
    window.fetch = async (path, how) => { if (path.includes("after=")) await waits; return real(path, how); };
"""

#: The answer to the question whether a verdict may be sent is held back until the test lets it come.
BEAT_WAITS = """
    const real = window.fetch, waits = new Promise((go) => { window.go = go; });
    window.fetch = async (path, how) => { if (path === "/beat") await waits; return real(path, how); };
"""

#: Looks whether the session lives, as each page does by itself every few seconds.
LOOK = "document.dispatchEvent(new Event('visibilitychange'))"

#: No minute without input passes, however busy the machine is.
NO_TIME_PASSES = "const now = Date.now(); Date.now = () => now"


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


def filled(page: Page, n: int) -> None:
    """Studies with falling probability; no file of theirs is stored."""
    for i, uid in enumerate(UIDS[:n]):
        page.desk.receive(uid, content=f"file {i}", accession_number=f"A-{i}")
        page.desk.screen(uid, 0.95 - 0.9 * i / n)


def comes_first(page: Page, uid: str = "1.2.826.77") -> None:
    page.desk.receive(uid, content=uid, accession_number="NEW")
    page.desk.screen(uid, FIRST)


def test_news_moves_no_row(page: Page, browser: Callable[[str], Browser]) -> None:
    filled(page, 12)
    driver = browser("/")
    driver.execute_script(NO_TIME_PASSES)
    resize(driver, 1280, 500)
    press(driver, "j", "j", "j")
    before = driver.execute_script(TOP)
    comes_first(page)
    news = driver.find_element("id", "news")
    until(news.is_displayed)
    assert driver.execute_script(TOP) == before
    page.visitor("ben").get(f"/study/{UIDS[0]}")
    page.desk.receive(UIDS[1], f"{UIDS[1]}.2", "late", path=f"/inbox/{'a long name ' * 20}.dcm")  # its row gets taller
    until(lambda: "new images came" in driver.find_element("css selector", f"tr[data-uid='{UIDS[1]}']").text)
    assert abs(driver.execute_script(TOP) - before) < 1


def test_news_is_taken_in_by_keyboard_where_single_keys_are_off(page: Page, browser: Callable[[str], Browser]) -> None:
    filled(page, 2)
    driver = browser("/")
    driver.execute_script(NO_TIME_PASSES)
    tab_to(driver, "#keys")
    press(driver, Keys.ENTER)
    comes_first(page)
    until(driver.find_element("id", "news").is_displayed)
    tab_to(driver, "#news")
    assert driver.find_element("class name", "count").text == "3 studies"
    press(driver, Keys.ENTER)
    until(lambda: len(driver.execute_script(SHOWN)) == 3)
    assert console(driver) == []


def test_pages_that_were_opened_below_stay_open_when_news_is_taken_in(
    page: Page, browser: Callable[[str], Browser]
) -> None:
    filled(page, 60)
    driver = browser("/")
    driver.execute_script(NO_TIME_PASSES)
    driver.find_element("css selector", "tr.more button").send_keys(Keys.ENTER)
    until(lambda: len(driver.execute_script(SHOWN)) == 60)
    chosen = driver.find_element("css selector", f"tr[data-uid='{UIDS[55]}'] a.study")
    driver.execute_script("arguments[0].focus()", chosen)
    comes_first(page)
    until(driver.find_element("id", "news").is_displayed)
    press(driver, "r")
    until(lambda: driver.execute_script(SHOWN)[0] == "1.2.826.77")
    assert driver.execute_script(SHOWN)[1:] == UIDS
    assert driver.execute_script(FOCUS) == UIDS[55]


@pytest.mark.parametrize("pages", ["answered", "unanswered"])
def test_news_that_comes_while_news_is_taken_in_is_told(
    page: Page, browser: Callable[[str], Browser], pages: str
) -> None:
    filled(page, 60)
    driver = browser("/")
    driver.execute_script(NO_TIME_PASSES)
    driver.find_element("css selector", "tr.more button").send_keys(Keys.ENTER)
    until(lambda: len(driver.execute_script(SHOWN)) == 60)
    comes_first(page, "1.2.826.77")
    news = driver.find_element("id", "news")
    until(news.is_displayed)
    driver.execute_script(PAGES_WAIT)
    press(driver, "r")
    comes_first(page, "1.2.826.78")
    until(lambda: driver.find_element("class name", "count").text == "62 studies")  # a poll was answered meanwhile
    driver.execute_script(f"window.{pages}()")
    if pages == "answered":
        until(lambda: "1.2.826.77" in driver.execute_script(SHOWN))
    assert news.is_displayed()
    press(driver, "r")
    until(lambda: "1.2.826.78" in driver.execute_script(SHOWN))
    assert {"1.2.826.77", *UIDS} < set(driver.execute_script(SHOWN))
    assert not news.is_displayed()


def test_the_bar_goes_when_there_is_nothing_to_take_in(page: Page, browser: Callable[[str], Browser]) -> None:
    filled(page, 2)
    driver = browser("/")
    driver.execute_script(NO_TIME_PASSES)
    comes_first(page)
    news = driver.find_element("id", "news")
    until(news.is_displayed)
    decisions.review(page.desk.database, "1.2.826.77", ReviewOutcome.PNEUMONIA, "Dr Dee", None, page.desk.clock())
    until(lambda: not news.is_displayed())


def test_the_place_of_a_row_that_is_gone_is_where_the_keys_go_on(page: Page, browser: Callable[[str], Browser]) -> None:
    filled(page, 4)
    driver = browser("/")
    driver.execute_script(NO_TIME_PASSES)
    press(driver, "j", "j")
    assert driver.execute_script(FOCUS) == UIDS[1]
    decisions.review(page.desk.database, UIDS[1], ReviewOutcome.PNEUMONIA, "Dr Dee", None, page.desk.clock())
    until(driver.find_element("id", "news").is_displayed)
    press(driver, "r")
    until(lambda: UIDS[1] not in driver.execute_script(SHOWN))
    driver.find_element("tag name", "body").send_keys("j")
    assert driver.execute_script(FOCUS) == UIDS[2]


@pytest.mark.parametrize("path", ["/quarantine", "/?search=over"])
def test_a_page_that_fetches_nothing_hears_of_the_server_and_of_a_log_out(
    page: Page, browser: Callable[[str], Browser], path: str
) -> None:
    driver = browser(path)
    stale = driver.find_element("id", "stale")
    driver.execute_script(AWAY)
    driver.execute_script("const clock = Date.now; Date.now = () => clock() + 16000")  # 16 s without an answer
    until(stale.is_displayed)
    time.sleep(7)  # longer than a page waits between two questions
    assert stale.is_displayed()
    driver.execute_script(BACK)
    until(lambda: not stale.is_displayed())
    first = driver.current_window_handle
    driver.switch_to.new_window("tab")
    driver.get(f"http://127.0.0.1:{page.port}/")
    driver.find_element("xpath", "//button[contains(., 'Log out')]").click()
    driver.switch_to.window(first)
    until(lambda: driver.current_url.endswith("/login"))


def test_a_study_that_is_looked_at_again_asks_at_once_whose_screen_it_is(
    page: Page, browser: Callable[[str], Browser]
) -> None:
    filled(page, 1)
    driver = browser(f"/study/{UIDS[0]}")
    asked = driver.execute_script("""
        const asked = [], real = window.fetch;
        window.fetch = (path, how) => { asked.push(path); return real(path, how); };
        document.dispatchEvent(new Event("visibilitychange"));
        return asked;
    """)
    assert f"/study/{UIDS[0]}/beat" in asked


def test_a_verdict_is_not_lost_to_a_server_that_is_away(page: Page, browser: Callable[[str], Browser]) -> None:
    filled(page, 2)
    driver = browser(f"/study/{UIDS[0]}")
    driver.find_element("tag name", "body").send_keys("c")
    press(driver, "seen at the base", Keys.TAB)
    driver.execute_script(AWAY)
    driver.find_element("tag name", "body").send_keys("p", Keys.ENTER)
    until(driver.find_element("id", "unsent").is_displayed)
    assert driver.find_element("id", "comment").get_attribute("value") == "seen at the base"
    assert page.desk.count("review") == 0
    driver.execute_script(BACK)
    driver.find_element("tag name", "body").send_keys(Keys.ENTER)
    until(lambda: UIDS[1] in driver.current_url)
    with page.desk.database.reading() as connection:
        assert connection.execute(sa.text("SELECT outcome, comment FROM review")).all() == [
            ("pneumonia", "seen at the base")
        ]


def test_a_verdict_that_is_confirmed_twice_is_sent_once(page: Page, browser: Callable[[str], Browser]) -> None:
    filled(page, 2)
    driver = browser(f"/study/{UIDS[0]}")
    driver.execute_script("""
        const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { bubbles: true, key }));
        press("p"); press("Enter"); press("Enter");
    """)
    until(lambda: UIDS[1] in driver.current_url)
    assert page.desk.count("review") == 1
    assert not driver.find_elements("class name", "changed")


def test_enter_confirms_wherever_the_focus_was(page: Page, browser: Callable[[str], Browser]) -> None:
    filled(page, 2)
    driver = browser(f"/study/{UIDS[0]}")
    tab_to(driver, "#theme")
    press(driver, "o")
    assert driver.find_element("css selector", "button.main").text == "Confirm: no pneumonia (Enter)"
    press(driver, Keys.ENTER)
    until(lambda: UIDS[1] in driver.current_url)
    assert page.desk.count("review") == 1


@pytest.mark.parametrize("way", ["after the table of keys", "by a search"])
def test_a_page_that_is_left_lets_go(page: Page, browser: Callable[[str], Browser], way: str) -> None:
    filled(page, 2)
    driver = browser(f"/study/{UIDS[0]}")
    assert page.desk.count("hold") == 1
    if way == "by a search":
        press(driver, "/", "nothing has this name", Keys.ENTER)
    else:
        press(driver, "?")
        driver.find_element("css selector", "dialog button").send_keys(Keys.ENTER)
        driver.find_element("tag name", "body").send_keys("b")
    until(lambda: page.desk.count("hold") == 0)


@pytest.mark.parametrize("end", ["idle", "disabled", "logged in anew"])
@pytest.mark.parametrize("noticed", ["at the verdict", "by the page itself"])
def test_a_verdict_is_not_lost_to_a_session_that_has_ended(
    page: Page, browser: Callable[[str], Browser], end: str, noticed: str
) -> None:
    filled(page, 2)
    driver = browser(f"/study/{UIDS[0]}")
    driver.find_element("tag name", "body").send_keys("c")
    press(driver, "seen at the base", Keys.TAB, "p")
    ended(page, driver, end)
    if noticed == "at the verdict":
        press(driver, Keys.ENTER)
    else:
        driver.execute_script(LOOK)
    until(driver.find_element("id", "over").is_displayed)
    press(driver, Keys.ENTER)
    assert driver.find_element("id", "comment").get_attribute("value") == "seen at the base"
    assert driver.find_element("id", "comment").is_displayed()
    for hidden in (".viewer", ".patient", "h1"):
        assert not driver.find_element("css selector", hidden).is_displayed()
    assert page.desk.count("review") == 0
    assert console(driver) == []
    driver.find_element("css selector", "#over a").click()
    fresh = "#over[hidden]" if end == "logged in anew" else "#password"
    until(lambda: driver.find_elements("css selector", fresh))


def ended(page: Page, driver: Browser, end: str) -> None:
    """Let the session of a page that is open end."""
    if end == "idle":
        page.desk.clock.forward(21 * 60)
    elif end == "disabled":
        accounts.disable(page.desk.database, "ann", "me", page.desk.clock())
    else:
        first = driver.current_window_handle
        driver.switch_to.new_window("tab")
        browsers.log_in(driver, f"http://127.0.0.1:{page.port}", "ann")
        driver.close()
        driver.switch_to.window(first)


def test_a_session_that_has_ended_leads_to_the_log_in_where_nothing_was_entered(
    page: Page, browser: Callable[[str], Browser]
) -> None:
    filled(page, 1)
    driver = browser(f"/study/{UIDS[0]}")
    page.desk.clock.forward(21 * 60)
    driver.execute_script(LOOK)
    until(lambda: driver.current_url.endswith("/login"))


@pytest.mark.parametrize("entered", ["verdict", "comment", "reason", "nothing"])
def test_the_browser_asks_before_what_was_entered_is_lost(
    page: Page, browser: Callable[[str], Browser], entered: str
) -> None:
    filled(page, 2)
    decisions.review(page.desk.database, UIDS[0], ReviewOutcome.UNCERTAIN, "Dr Dee", None, page.desk.clock())
    driver = browser("/")
    for way in ("n", "b", "Quarantine"):
        driver.get(f"http://127.0.0.1:{page.port}/study/{UIDS[0]}")
        enter(driver, entered)
        before = driver.current_url
        if len(way) == 1:
            press(driver, way)
        else:
            driver.find_element("link text", way).click()
        until_elsewhere(driver, before)
        assert questions(driver) == ([] if entered == "nothing" else ["beforeunload"]), way


def enter(driver: Browser, what: str) -> None:
    """Enter something on the page of a study, and leave the field."""
    if what == "verdict":
        driver.find_element("tag name", "body").send_keys("p")
    elif what == "comment":
        driver.find_element("id", "comment").send_keys("seen at the base", Keys.TAB)
    elif what == "reason":
        driver.find_element("xpath", "//summary[. = 'Back on the list']").click()
        driver.find_element("id", "reason").send_keys("wrong patient", Keys.TAB)
    else:
        tab_to(driver, "#theme")


def test_the_browser_asks_nothing_when_a_verdict_is_sent(page: Page, browser: Callable[[str], Browser]) -> None:
    filled(page, 2)
    driver = browser(f"/study/{UIDS[0]}")
    enter(driver, "comment")
    press(driver, "p", Keys.ENTER)
    until(lambda: UIDS[1] in driver.current_url)
    assert questions(driver) == []


def test_the_browser_asks_before_another_form_loses_what_was_typed(
    page: Page, browser: Callable[[str], Browser]
) -> None:
    filled(page, 2)
    driver = browser(f"/study/{UIDS[0]}")
    enter(driver, "comment")
    driver.find_element("xpath", "//button[starts-with(., 'Make it')]").click()
    assert until(lambda: questions(driver)) == ["beforeunload"]


def test_a_page_that_is_left_while_a_verdict_waits_to_be_sent_lets_go(
    page: Page, browser: Callable[[str], Browser]
) -> None:
    filled(page, 2)
    driver = browser(f"/study/{UIDS[0]}")
    assert page.desk.count("hold") == 1
    driver.execute_script(BEAT_WAITS)
    press(driver, "p", Keys.ENTER, "b")
    until(lambda: page.desk.count("hold") == 0)
    assert page.desk.count("review") == 0
