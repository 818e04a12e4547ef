"""The reader of a chaos run: signed in to the page, it lists, opens studies and gives verdicts all the time."""

import random
import re
import threading
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPException
from urllib.parse import urlencode

from schema.vocabulary import ReviewOutcome
from tests.reading_room import PASSWORD, Answer, Visitor

NAME = "ann"

#: Time between two studies, and between two tries to reach a page that is away.
PAUSE_S = 0.2

#: Of so many verdicts one is the last, which keeps its study on the list.
OUTCOMES = [ReviewOutcome.NO_PNEUMONIA] * 3 + [ReviewOutcome.PNEUMONIA] * 2 + [ReviewOutcome.UNCERTAIN]

DIGEST = re.compile(r'<option value="([0-9a-f]{64})"')


class Reader:
    """Reads in a thread of its own until it is stopped. A verdict that is not answered is sent again as it was."""

    def __init__(self, port: int, seed: int) -> None:
        self.statuses: Counter[int] = Counter()  #: answers by status of HTTP
        self.faults: list[str] = []  #: requests that were answered with 500
        self.unanswered = 0
        self.confirmed: list[str] = []  #: comments of the verdicts that the page confirmed; each is another
        self.given = 0
        self.is_giving = threading.Event()  #: a verdict was sent and is not answered yet
        self._visitor = Visitor(port)
        self._dice = random.Random(seed)
        self._tag = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader")

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the study that is being read, if the page lets it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_S):
            if self._look_at_list():
                self._read_next()

    def _look_at_list(self) -> bool:
        """The whole list, then what changed since; logs in where the page asks for it."""
        shown = self._ask("GET", "/")
        if shown is None or shown.status != HTTPStatus.OK:
            if shown is not None and _leads_to_login(shown):
                self._log_in()
            return False
        polled = self._ask("GET", "/rows", If_None_Match=self._tag or None)
        if polled is not None:
            self._tag = polled.header("ETag")
        return True

    def _read_next(self) -> None:
        """Open the next study, look at its picture and heat map, and give a verdict."""
        led = self._ask("GET", "/next")
        path = "" if led is None else led.header("Location")
        if not path.startswith("/study/"):
            return
        opened = self._ask("GET", path)
        if opened is None or opened.status != HTTPStatus.OK:
            return
        for digest in DIGEST.findall(opened.text):
            self._ask("GET", f"/picture/{digest}/half")
            self._ask("GET", f"{path}/heat/{digest}")
        self._give(path, opened)

    def _give(self, path: str, opened: Answer) -> None:
        """Send a verdict until the page answers it."""
        self.given += 1
        comment = f"verdict {self.given}"
        shown = {name: opened.field(name) for name in ("csrf", "revision", "screening", "review")}
        form = shown | {"outcome": self._dice.choice(OUTCOMES), "comment": comment}
        while not self._stop.is_set():
            self.is_giving.set()
            answer = self._ask("POST", f"{path}/verdict", form)
            self.is_giving.clear()
            if answer is not None and answer.status == HTTPStatus.SEE_OTHER:
                self.confirmed.append(comment)
            if answer is not None and answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                return  # also where it was stored before, or something newer is to be looked at
            self._stop.wait(PAUSE_S)

    def _log_in(self) -> None:
        form = self._ask("GET", "/login")
        if form is not None and form.status == HTTPStatus.OK:
            who = {"name": NAME, "password": PASSWORD, "csrf": form.field("csrf"), "next": "/"}
            self._ask("POST", "/login", who)

    def _ask(
        self, method: str, path: str, form: Mapping[str, str] | None = None, **headers: str | None
    ) -> Answer | None:
        """One answer, counted; None while the page is away."""
        try:
            answer = self._visitor.ask(method, path, None if form is None else urlencode(form), **headers)
        except (OSError, HTTPException):
            self.unanswered += 1
            return None
        self.statuses[answer.status] += 1
        if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            self.faults.append(f"{method} {path}")
        return answer


def _leads_to_login(answer: Answer) -> bool:
    return answer.status == HTTPStatus.SEE_OTHER and answer.header("Location").startswith("/login")
