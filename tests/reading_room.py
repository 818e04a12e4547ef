"""The page for tests: a real server on this machine, and visitors that speak HTTP to it as a browser does."""

import http.client
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import urlencode

import attrs

from schema.vocabulary import Role
from tests.ledger import Ledger
from worker.decoding.pool import DecoderPool
from worker.imaging.image_file import read_instance
from worker.ledger.intake import register
from worker.ledger.intake.arrivals import Incoming, Receipt
from worker.ledger.reading_room import accounts
from worker.store import OBJECTS
from worker.web.page_context import PageContext
from worker.web.passwords import hashed
from worker.web.server import server

PASSWORD = "correct horse battery staple"

#: Its hash, made once: it takes a tenth of a second.
PASSWORD_HASH = hashed(PASSWORD)


@dataclass
class Answer:
    """An answer of the page."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def header(self, name: str) -> str:
        """The first header of this name, or nothing."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def field(self, name: str) -> str:
        """The value of the first form field of this name."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.text)
        assert found is not None, f"no field {name}"
        return unescape(found[1])


@dataclass
class Visitor:
    """A browser: it keeps cookies, and says where its requests come from."""

    port: int
    host: str = ""
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str = ""

    def ask(self, method: str, path: str, body: str | None = None, **headers: str | None) -> Answer:
        """One request; a header None is left out."""
        origin = f"http://{self.host or f'127.0.0.1:{self.port}'}"
        said: dict[str, str | None] = {"Host": self.host or f"127.0.0.1:{self.port}"}
        if self.cookies:
            said["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if body is not None:
            said |= {
                "Content-Type": "application/x-www-form-urlencoded", "Origin": origin, "Sec-Fetch-Site": "same-origin"
            }  # fmt: skip
        said |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, {k: v for k, v in said.items() if v is not None})
            got = connection.getresponse()
            answer = Answer(got.status, got.getheaders(), got.read())
        finally:
            connection.close()
        for name, value in answer.headers:
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                kept = rest.partition(";")[0].strip('"')
                self.cookies.pop(key, None)
                if kept and "Max-Age=0" not in value:
                    self.cookies[key] = kept
        return answer

    def get(self, path: str, **headers: str | None) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, fields: Mapping[str, object] | None = None, **headers: str | None) -> Answer:
        """Send a form with this visitor's token."""
        return self.ask("POST", path, urlencode({"csrf": self.csrf, **(fields or {})}), **headers)

    def log_in(self, name: str, password: str = PASSWORD) -> Answer:
        """Log in by the form; the token of the session's forms is kept."""
        form = self.get("/login")
        self.csrf = form.field("csrf")
        answer = self.post("/login", {"name": name, "password": password, "next": "/"})
        if answer.status == 303:
            found = re.search(r'data-csrf="([^"]*)"', self.get("/").text)
            assert found is not None
            self.csrf = found[1]
        return answer


@dataclass
class Page:
    """A running page on a ledger."""

    desk: Ledger
    context: PageContext
    port: int

    def account(self, name: str, role: Role = Role.READER) -> None:
        accounts.add(self.desk.database, name, role, PASSWORD_HASH, "test", self.desk.clock())

    def visitor(self, name: str | None = None, role: Role = Role.READER) -> Visitor:
        """A browser; with a name, one that has logged in. The account is made when it is not there."""
        visitor = Visitor(self.port)
        if name is not None:
            if accounts.find(self.desk.database, name) is None:
                self.account(name, role)
            assert visitor.log_in(name).status == 303
        return visitor

    def receive(self, content: bytes, path: str = "/inbox/one.dcm") -> str:
        """Take a real file in; its digest."""
        digest = self.desk.store.put(OBJECTS, content)
        receipt = Receipt(Incoming(path, len(content), 1), read_instance(content), digest, is_settled=True)
        register.register(self.desk.database, receipt, self.desk.settings, self.desk.clock())
        return digest


@contextmanager
def running(desk: Ledger, **settings: Any) -> Iterator[Page]:
    """The page on a free port, with the ledger, store and clock of a test."""
    in_force = attrs.evolve(desk.settings, **settings)
    context = PageContext(in_force, desk.database, desk.store, DecoderPool.of(in_force), desk.clock)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = server(in_force, context)
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]})
        thread.start()
        deadline = time.monotonic() + 120
        while not serving.started and time.monotonic() < deadline:
            time.sleep(0.02)
        try:
            yield Page(desk, context, listener.getsockname()[1])
        finally:
            serving.should_exit = True
            thread.join(60)
            context.decoder.close()
