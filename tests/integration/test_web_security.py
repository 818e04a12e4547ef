"""The page's accounts, sessions and defences: what each role may do, and what is refused."""

import http.client
import json
import logging
import re
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import sqlalchemy as sa
from argon2 import Parameters, PasswordHasher, extract_parameters
from click.testing import CliRunner

from schema.setting_values import AuditReads
from schema.vocabulary import AuditAction, Role
from tests.acceptance.installation import wait_until
from tests.certificates import certificate
from tests.ledger import STUDY, Ledger, digest
from tests.phantoms import dicom_file
from tests.reading_room import PASSWORD, PASSWORD_HASH, Page, Visitor, running
from worker.cli.main import app
from worker.errors import BadSetting
from worker.ledger import audit
from worker.ledger.reading_room import accounts, holds, sessions
from worker.monitoring.health import CheckResult, check
from worker.settings import Settings
from worker.web import passwords
from worker.web.application import PAGES
from worker.web.application import Page as Route
from worker.web.cache import Bounded
from worker.web.guards import Guard
from worker.web.network_exposure import check_exposure
from worker.web.permissions import MAY

DIGEST = "a" * 64


@pytest.fixture
def kind() -> str:
    """SQLite alone: what is tried here does not depend on the database."""
    return "sqlite"


@pytest.fixture
def page(desk: Ledger) -> Iterator[Page]:
    desk.receive(accession_number="A-1")
    desk.screen(STUDY, 0.9)
    with running(desk) as page:
        yield page


def path_of(route: Route) -> str:
    return route.path.replace("{study}", STUDY).replace("{digest}", DIGEST).replace("{name}", "style.css").replace(
        "{token}", "none"
    )  # fmt: skip


def ask(visitor: Visitor, route: Route, **headers: str | None) -> int:
    if route.method == "GET":
        return visitor.get(path_of(route), **headers).status
    return visitor.post(path_of(route), None, **headers).status


def deeds(desk: Ledger) -> list[tuple[str, str]]:
    return [(entry.who, entry.deed) for entry in audit.trail(desk.database, desk.clock() - timedelta(days=2))]


CLOSED = [route for route in PAGES if route.permission is not None]


def test_every_route_without_a_session_shows_nothing(page: Page) -> None:
    for route in CLOSED:
        status = ask(page.visitor(), route)
        assert status in (303, 401), f"{route.method} {route.path}: {status}"


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/study/1.2.3", 404), ("GET", "/nothing", 404), ("GET", "/%3Cb%3E", 400), ("POST", "/search", 403),
])  # fmt: skip
def test_a_refusal_is_a_page_for_people_and_a_line_for_programs(
    page: Page, method: str, path: str, status: int
) -> None:
    visitor = page.visitor("ann")
    visitor.cookies["theme"] = "dark"
    body = None if method == "GET" else "words=A-1"
    by_link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    said = visitor.ask(method, path, body, Accept="text/html,application/xhtml+xml", **by_link)
    assert said.status == status
    for words in ("Research use only. Not a medical device.", 'data-theme="dark"', 'href="/"', "[refused]"):
        assert words in said.text.replace("unknown_study", "refused"), words
    line = visitor.ask(method, path, body, **by_link)
    assert (line.status, line.header("Content-Type")) == (status, "text/plain; charset=utf-8")
    assert "<" not in line.text


@pytest.mark.parametrize("role", list(Role))
def test_every_route_is_open_to_just_the_roles_that_may(page: Page, role: Role) -> None:
    visitor = page.visitor(f"some {role}", role)
    for route in (route for route in CLOSED if route.path != "/logout"):
        status = ask(visitor, route)
        assert route.permission is not None
        assert (status == 403) is (route.permission not in MAY[role]), f"{route.method} {route.path}: {status}"
        assert status < 500


def test_an_operator_sees_no_picture_and_an_ordinary_reader_no_audit() -> None:
    wanted = {
        Role.READER: {"list", "look", "verdict", "priority"},
        Role.OPERATOR: {"list", "requeue"},
        Role.ADMIN: {"list", "look", "verdict", "priority", "requeue", "audit"},
    }
    assert {role: {str(p) for p in may} for role, may in MAY.items()} == wanted


def test_every_form_needs_the_token_of_its_session(page: Page) -> None:
    visitor = page.visitor("root", Role.ADMIN)
    other = page.visitor("other", Role.ADMIN)
    for route in (route for route in CLOSED if route.method == "POST"):
        for token in ("", "0" * 64, other.csrf):
            assert visitor.post(path_of(route), {"csrf": token}).status == 403, route.path
    assert visitor.get("/").status == 200  # and nobody was logged out


def test_every_form_needs_our_own_origin(page: Page) -> None:
    visitor = page.visitor("root", Role.ADMIN)
    foreign: tuple[dict[str, str | None], ...] = (
        {"Origin": "http://evil.example", "Sec_Fetch_Site": None},
        {"Origin": "http://evil.example", "Sec_Fetch_Site": "same-origin"},
        {"Origin": None, "Sec_Fetch_Site": "cross-site"},
        {"Origin": "null", "Sec_Fetch_Site": None},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": None, "Sec_Fetch_Site": None},
    )
    for route in (route for route in PAGES if route.method == "POST"):
        for headers in foreign:
            assert ask(visitor, route, **headers) == 403, (route.path, headers)
    assert visitor.get("/").status == 200


def test_another_page_leads_here_by_a_link_and_fetches_nothing(page: Page) -> None:
    """Cookies come with what a page on another port of this host asks for, though it cannot read the answers."""
    visitor = page.visitor("ann")
    ways = (
        ("same-site", "no-cors", "image"), ("same-site", "navigate", "iframe"), ("cross-site", "cors", "empty"),
    )  # fmt: skip
    for route in (route for route in PAGES if route.method == "GET"):
        for site, mode, aim in ways:
            said = visitor.get(path_of(route), Sec_Fetch_Site=site, Sec_Fetch_Mode=mode, Sec_Fetch_Dest=aim)
            assert said.status == 403, (route.path, mode)
    assert page.desk.count("hold") == 0
    link = {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert visitor.get(f"/study/{STUDY}", **link).status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost:8464@evil.example"])
def test_a_forged_host_gets_400_on_every_route(page: Page, host: str) -> None:
    visitor = page.visitor("root", Role.ADMIN)
    for route in PAGES:
        assert ask(visitor, route, Host=host) == 400, route.path


@pytest.mark.parametrize(
    "path",
    [
        "/static/../application.py", "/static/%2e%2e/application.py", "/static/..%2fx.py", "/static//style.css",
        "/study/%2e%2e", "/%2e%2e/etc/passwd", "//evil.example/", "/login%0d%0aX:1", "/study/..", "/static/.hidden",
    ],
)  # fmt: skip
def test_a_path_that_needs_decoding_or_climbs_is_refused(page: Page, path: str) -> None:
    assert page.visitor("root", Role.ADMIN).get(path).status == 400


def test_the_log_in_leads_to_no_other_host(page: Page) -> None:
    page.account("ann")
    for aim in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"):
        visitor = page.visitor()
        visitor.csrf = visitor.get("/login").field("csrf")
        answer = visitor.post("/login", {"name": "ann", "password": PASSWORD, "next": aim})
        assert (answer.status, answer.header("Location")) == (303, "/")


def test_every_answer_carries_the_policy(page: Page) -> None:
    visitor = page.visitor("ann")
    for path in ("/", "/login", f"/study/{STUDY}", "/static/style.css", "/nothing", "/study/%41", "/rows"):
        answer = visitor.get(path)
        policy = answer.header("Content-Security-Policy")
        assert policy == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
            " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert answer.header("X-Content-Type-Options") == "nosniff"
        assert answer.header("Referrer-Policy") == "no-referrer"
        if not path.startswith("/static"):
            assert answer.header("Cache-Control") == "no-store"
        assert "server" not in {name.lower() for name, _ in answer.headers}


def test_no_page_needs_an_exception_from_the_policy(page: Page) -> None:
    visitor = page.visitor("root", Role.ADMIN)
    for path in ("/", f"/study/{STUDY}", "/audit", "/quarantine", "/login"):
        text = visitor.get(path).text
        assert not re.search(r"<[^>]* (style|on\w+)=|<style|<script(?![^>]* src=\"/static/)|javascript:", text)
        assert '"allowEval":false,"includeIndicatorStyles":false' in text


def test_the_cookie_of_plain_http_and_that_of_tls(page: Page) -> None:
    visitor = page.visitor()
    page.account("ann")
    visitor.csrf = visitor.get("/login").field("csrf")
    cookie = next(v for k, v in visitor.post("/login", {"name": "ann", "password": PASSWORD}).headers
                  if k.lower() == "set-cookie" and v.startswith("plain-session="))  # fmt: skip
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Secure" not in cookie
    assert "Max-Age" not in cookie
    with running(page.desk, web_behind_proxy="127.0.0.1") as over_tls:
        visitor = over_tls.visitor()
        tls = {"Origin": f"https://127.0.0.1:{over_tls.port}"}
        visitor.csrf = visitor.get("/login").field("csrf")
        answer = visitor.post("/login", {"name": "ann", "password": PASSWORD}, **tls)
        cookie = next(v for k, v in answer.headers if k.lower() == "set-cookie" and v.startswith("__Host-session="))
        assert {"HttpOnly", "SameSite=strict", "Path=/", "Secure"} <= {part.strip() for part in cookie.split(";")}
        assert "Domain" not in cookie
        assert answer.header("Strict-Transport-Security")


def test_only_hashes_of_tokens_and_passwords_are_kept(page: Page) -> None:
    visitor = page.visitor("ann")
    token = accounts.make_token(page.desk.database, "ris", ("worklist",), "me", page.desk.clock())
    with page.desk.database.reading() as connection:
        kept = [
            str(tuple(row))
            for table in ("account", "web_session", "access_token", "audit", "login_failure")
            for row in connection.execute(sa.text(f"SELECT * FROM {table}"))
        ]
    assert len(visitor.cookies["plain-session"]) >= 43  # 256 bits in base64
    for secret in (visitor.cookies["plain-session"], token, PASSWORD):
        assert not any(secret in row for row in kept)
    assert any("$argon2id$" in row for row in kept)


@pytest.mark.parametrize("how", ["log-out", "disabling", "a new password", "sessions ended"])
def test_a_cookie_from_before_is_worth_nothing(page: Page, how: str) -> None:
    visitor = page.visitor("ann")
    stolen = Visitor(page.port, cookies=dict(visitor.cookies), csrf=visitor.csrf)
    assert stolen.get("/").status == 200
    database, now = page.desk.database, page.desk.clock()
    if how == "log-out":
        answer = visitor.post("/logout")
        assert '"cache"' in answer.header("Clear-Site-Data")
    elif how == "disabling":
        accounts.disable(database, "ann", "me", now)
    elif how == "a new password":
        accounts.set_password(database, "ann", passwords.hashed("another one of 12"), "me", now)
    else:
        accounts.end_sessions(database, "ann", "me", now)
    assert (stolen.get("/").status, stolen.post(f"/study/{STUDY}/priority", {"priority": "stat"}).status) == (303, 401)
    answer = stolen.get("/login")
    assert '"cache"' in answer.header("Clear-Site-Data"), "the pictures of a session that others ended"
    assert "plain-session" not in stolen.cookies
    assert stolen.get("/login").header("Clear-Site-Data") == ""


def test_a_log_in_gives_a_new_token_and_ends_the_old_one(page: Page) -> None:
    visitor = page.visitor("ann")
    old = Visitor(page.port, cookies=dict(visitor.cookies))
    visitor.log_in("ann")
    assert visitor.cookies != old.cookies
    assert (old.get("/").status, visitor.get("/").status) == (303, 200)


def test_a_session_ends_20_minutes_after_the_last_input_and_12_hours_after_the_log_in(page: Page) -> None:
    visitor, clock = page.visitor("ann"), page.desk.clock
    for _ in range(3):  # polls, pictures, and heartbeats without input are no use
        clock.forward(300)
        assert visitor.get("/rows").status == 200
        assert visitor.post("/beat", {"input": "0"}).status == 204
        assert visitor.post(f"/study/{STUDY}/beat", {"input": "0"}).status == 204
        assert visitor.get(f"/study/{STUDY}/next").status == 200
        for part in ("thumbnail", "half", "facts", "pixels"):
            assert visitor.get(f"/picture/{DIGEST}/{part}").status == 404
        assert visitor.get(f"/study/{STUDY}/heat/{DIGEST}").status == 404
    clock.forward(299)
    assert visitor.get("/rows").status == 200
    clock.forward(2)
    assert visitor.get("/rows").status == 401
    visitor = page.visitor("ann")
    for _ in range(47):
        clock.forward(900)
        assert visitor.post("/beat", {"input": "1"}).status == 204
    clock.forward(901)
    assert visitor.get("/").status == 303


def test_five_failures_lock_a_name_or_an_address_for_15_minutes(page: Page) -> None:
    page.account("ann")
    page.account("ben")
    clock = page.desk.clock
    for _ in range(5):
        assert page.visitor().log_in("ann", "wrong wrong wrong").status == 401
        clock.forward(60)
    assert page.visitor().log_in("ann").status == 429  # even with the right one
    assert page.visitor().log_in("ben").status == 429  # from this address
    clock.forward(15 * 60 - 61)
    assert page.visitor().log_in("ann").status == 429
    clock.forward(2)
    assert page.visitor().log_in("ann").status == 303
    assert deeds(page.desk).count(("ann", "login_failed")) == 5


def test_others_failures_end_no_session_and_lock_nobody_else(page: Page) -> None:
    """The lock of a name is for log-ins by that name alone, of an address for those from there alone."""
    page.account("ben")
    clock = page.desk.clock
    with running(page.desk, web_behind_proxy="127.0.0.1") as proxied:

        def log_in(name: str, password: str, address: str) -> tuple[int, Visitor]:
            visitor = proxied.visitor()
            visitor.csrf = visitor.get("/login").field("csrf")
            said = {"Origin": f"https://127.0.0.1:{proxied.port}", "X_Forwarded_For": address}
            return visitor.post("/login", {"name": name, "password": password}, **said).status, visitor

        page.account("ann")
        status, ann = log_in("ann", PASSWORD, "10.0.0.1")
        assert status == 303
        for _ in range(9):  # the last four are refused, and do not make the lock longer
            log_in("ann", "wrong wrong wrong", "10.0.0.66")
            clock.forward(10)
        assert ann.get("/").status == 200, "who is there already works on"
        assert log_in("ann", PASSWORD, "10.0.0.1")[0] == 429
        assert log_in("ben", PASSWORD, "10.0.0.66")[0] == 429
        assert log_in("ben", PASSWORD, "10.0.0.1")[0] == 303
        clock.forward(15 * 60 - 50)
        assert log_in("ann", PASSWORD, "10.0.0.1")[0] == 303


def test_failures_from_many_addresses_lock_the_name_known_or_not(page: Page) -> None:
    page.account("ann")
    with running(page.desk, web_behind_proxy="127.0.0.1") as proxied:
        tls = {"Origin": f"https://127.0.0.1:{proxied.port}"}
        for name in ("ann", "nobody"):
            for n in range(6):
                visitor = proxied.visitor()
                visitor.csrf = visitor.get("/login").field("csrf")
                far = {"X_Forwarded_For": f"1.2.3.4, 10.0.{len(name)}.{n}"}
                status = visitor.post("/login", {"name": name, "password": "wrong wrong"}, **tls, **far).status
                assert status == (429 if n == 5 else 401)


def test_an_address_is_believed_from_named_proxies_alone(page: Page) -> None:
    page.account("ann")
    visitor = page.visitor()
    for n in range(5):
        visitor.csrf = visitor.get("/login").field("csrf")
        visitor.post("/login", {"name": f"x{n}", "password": "wrong"}, X_Forwarded_For=f"10.0.0.{n}")
    assert page.visitor().log_in("ann").status == 429


class CountedHasher:
    """The real one, which keeps what each comparison costs."""

    def __init__(self) -> None:
        self.costs: list[Parameters] = []

    def verify(self, kept: str, password: str) -> bool:
        self.costs.append(extract_parameters(kept))
        return PasswordHasher().verify(kept, password)


def test_an_unknown_name_takes_as_long_as_a_known_one(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each compares one hash of the same cost: counted, because this machine's clock says little."""
    hasher = CountedHasher()
    monkeypatch.setattr(passwords, "HASHER", hasher)
    page.account("ann")
    accounts.disable(page.desk.database, "ann", "me", page.desk.clock())
    page.account("ben")
    for number, name in enumerate(("ben", "nobody", "ann"), start=1):
        assert page.visitor().log_in(name, "wrong wrong wrong").status == 401
        assert len(hasher.costs) == number
    assert len(set(map(repr, hasher.costs))) == 1
    assert [who for who, deed in deeds(page.desk) if deed == "login_failed"] == ["ben", "unknown name", "ann"]


def test_at_most_two_hashes_at_a_time(page: Page) -> None:
    assert passwords.TURNS.acquire(timeout=60)
    assert passwords.TURNS.acquire(timeout=60)
    try:
        third: list[int] = []
        thread = threading.Thread(target=lambda: third.append(page.visitor().log_in("nobody").status))
        thread.start()
        thread.join(1)
        assert third == []
    finally:
        passwords.TURNS.release()
        passwords.TURNS.release()
    thread.join(120)
    assert third == [401]


def test_a_password_has_12_characters_and_there_is_no_default_account(desk: Ledger) -> None:
    environment = {"SCREENING_HOME": str(desk.settings.home), "SCREENING_DATABASE": desk.database.url}

    def run(*words: str, typed: str = "") -> str:
        done = CliRunner().invoke(app, words, input=typed, env=environment)
        return f"{done.exit_code} {done.stdout} {done.exception or ''}"

    with running(desk) as page:
        text = page.visitor().get("/login").text
        assert "There is no account yet" in text
        assert "worker user add" in text
        add = ("user", "add", "ann", "--role", "reader", "--by", "me")
        assert "12 characters" in run(*add, typed="eleven char\n")
        assert run(*add, typed=PASSWORD + "\n").startswith("0")
        assert page.visitor().log_in("ann").status == 303
        listed = run("user", "list", "--json")
        assert listed.startswith("0"), listed
        assert json.loads(listed[1:])["accounts"] == [
            {"name": "ann", "role": "reader", "is_disabled": False, "sessions": 0}  # the page's clock stands still
        ]
        assert run("user", "password", "ann", "--by", "me", typed="a new one of twelve\n").startswith("0")
        assert page.visitor().log_in("ann").status == 401
        assert page.visitor().log_in("ann", "a new one of twelve").status == 303
        assert run("user", "sessions", "ann", "--by", "me").startswith("0")
        assert run("user", "disable", "ann", "--by", "me").startswith("0")
        assert page.visitor().log_in("ann", "a new one of twelve").status == 401
    changed = [entry for entry in audit.trail(desk.database, desk.clock() - timedelta(days=2000))
               if entry.deed == AuditAction.ACCOUNT_CHANGED]  # fmt: skip
    assert [(entry.who, entry.subject, entry.detail) for entry in changed] == [
        ("me", "ann", "added as reader"),
        ("me", "ann", "new password"),
        ("me", "ann", "sessions ended"),
        ("me", "ann", "disabled"),
    ]


def test_a_trusted_header_is_believed_from_named_addresses_alone(page: Page) -> None:
    page.account("ann")
    header = {"X_Remote_User": "ann"}
    with running(page.desk, web_trusted_header="X-Remote-User", web_trusted_from="10.1.1.1") as far:
        assert far.visitor().get("/login", **header).status == 200  # the form
    with running(page.desk, web_trusted_header="X-Remote-User", web_trusted_from="127.0.0.1") as near:
        visitor = near.visitor()
        assert visitor.get("/login", **header).status == 303
        assert visitor.get("/", **header).status == 200
        assert visitor.get("/", X_Remote_User="ben").status == 303  # another person at the same browser
        accounts.disable(page.desk.database, "ann", "me", page.desk.clock())
        assert near.visitor().get("/login", **header).status == 200


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ({"web_host": "0.0.0.0"}, "WEB_TLS_CERTIFICATE"),
        ({"web_host": "10.0.0.1"}, "WEB_BEHIND_PROXY"),
        ({"web_tls_certificate": "/nowhere.pem"}, "_KEY"),
        ({"web_tls_certificate": "/nowhere.pem", "web_tls_key": "/nowhere.key"}, "not there"),
        ({"web_trusted_header": "X-User"}, "WEB_TRUSTED_FROM"),
        ({"web_behind_proxy": "everybody"}, "addresses"),
        ({"web_hosts": "*"}, "one by one"),
    ],
)
def test_settings_that_expose_the_page_are_refused(tmp_path: Path, setting: dict[str, str], remedy: str) -> None:
    with pytest.raises(BadSetting, match=remedy):
        check_exposure(Settings(home=tmp_path, **setting))  # type: ignore[arg-type]


def test_worker_check_says_where_the_page_listens_and_who_can_log_in(desk: Ledger) -> None:
    def page(**changes: Any) -> CheckResult:
        settings = attrs.evolve(desk.settings, database=desk.database.url, **changes)
        return next(finding for finding in check(settings) if finding.what == "page")

    assert page() == CheckResult(
        "page", True, "port 8464 on 127.0.0.1, on this machine alone; no account yet: `worker user add`"
    )
    accounts.add(desk.database, "ann", Role.READER, PASSWORD_HASH, "me", desk.clock())
    assert page().message.endswith("; 1 account")
    exposed = page(web_host="0.0.0.0")
    assert not exposed.is_well
    assert "would send passwords over the network in the clear" in exposed.message


def test_the_page_binds_to_this_machine(tmp_path: Path) -> None:
    assert check_exposure(Settings(home=tmp_path)) == "port 8464 on 127.0.0.1, on this machine alone"


def sent(port: int, content: bytes, wait_s: float = 120.0) -> bytes:
    """What a raw client gets."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait_s) as raw:
        raw.sendall(content)
        got = b""
        while piece := raw.recv(65536):
            got += piece
        return got


def test_large_bodies_and_headers_are_refused(page: Page) -> None:
    visitor = page.visitor("ann")
    assert visitor.post(f"/study/{STUDY}/verdict", {"comment": "x" * 65_600}).status == 413
    head = f"GET /login HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n"
    for headers in (f"X: {'x' * 20_000}\r\n", "".join(f"X-{n}: {'x' * 500}\r\n" for n in range(40))):
        got = sent(page.port, f"{head}Connection: close\r\n{headers}\r\n".encode())
        assert got.split(b" ")[1] in (b"431", b"400")
    assert visitor.get("/?show=" + "x" * 17_000).status == 431
    chunked = f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nSec-Fetch-Site: same-origin\r\n"
    chunked += "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + f"{70_000:x}\r\n{'x' * 70_000}\r\n0\r\n\r\n"
    assert sent(page.port, chunked.encode()).startswith(b"HTTP/1.1 413")


def test_a_request_with_two_lengths_is_refused(page: Page) -> None:
    """A proxy that went by the other one would take the rest for another person's request."""
    head = (
        f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nSec-Fetch-Site: same-origin\r\nConnection: close\r\n"
    )
    both = f"{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    got = sent(page.port, both.encode())
    assert got.startswith(b"HTTP/1.1 400")
    assert b"two lengths" in got


def test_slow_requests_are_cut_off(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.web.guards.BODY_DEADLINE_S", 0.3)
    head = f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nSec-Fetch-Site: same-origin\r\n"
    slow = sent(page.port, f"{head}Connection: close\r\nContent-Length: 100\r\n\r\nname=".encode())
    assert slow.startswith(b"HTTP/1.1 408")
    monkeypatch.setattr("worker.web.server.HEADER_DEADLINE_S", 0.3)
    assert sent(page.port, b"GET /lo") == b""
    assert sent(page.port, b"") == b""


@contextmanager
def raw(page: Page, address: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A connection from an address of this machine."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=120, source_address=(address, 0)) as connection:
        yield connection


def test_slow_clients_hold_no_place_and_one_address_not_all_of_theirs(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ninety requests whose bodies do not come: more than may be under way."""
    monkeypatch.setattr("worker.web.guards.BODY_DEADLINE_S", 600.0)
    monkeypatch.setattr("worker.web.server.HEADER_DEADLINE_S", 600.0)
    visitor = page.visitor("ann")
    head = f"POST /login HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nSec-Fetch-Site: same-origin\r\n"
    begun = f"{head}Content-Length: 100\r\n\r\nname=".encode()
    with ExitStack() as stack:
        for last in range(2, 8):
            slow = [stack.enter_context(raw(page, f"127.0.0.{last}")) for _ in range(17)]
            for connection in slow:
                connection.sendall(begun)
            refused = select.select(slow, [], [], 120)[0]
            assert len(refused) == 1, "the seventeenth of an address is refused at once"
            assert refused[0].recv(100).startswith(b"HTTP/1.1 503")
        assert visitor.get("/").status == 200
        assert visitor.post(f"/study/{STUDY}/priority", {"priority": "stat"}).status == 303


def test_a_client_that_does_not_take_its_answer_is_cut_off(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.web.server.TAKEN_S", 0.3)
    noise = np.random.default_rng(1).integers(0, 65536, (2500, 2500), np.uint16)
    digest = page.receive(dicom_file(noise, bits=16, StudyInstanceUID="1.2.3.4", SOPInstanceUID="1.2.3.4.1"))
    visitor = page.visitor("ann")
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    asked = f"GET /picture/{digest}/pixels HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nCookie: {cookie}\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", page.port))
        connection.sendall(asked.encode())
        ended = select.poll()
        ended.register(connection, select.POLLHUP | select.POLLERR)
        assert ended.poll(120_000), "the server still waits for it"
    monkeypatch.setattr("worker.web.server.TAKEN_S", 600.0)  # who takes it gets it whole, on a busy machine too
    assert len(visitor.get(f"/picture/{digest}/pixels").body) > 12_000_000


def test_one_address_cannot_have_all_connections(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.web.server.HEADER_DEADLINE_S", 600.0)
    monkeypatch.setattr("worker.web.server.MOST_OF_AN_ADDRESS", 5)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(raw(page, "127.0.0.2"))
        sixth = stack.enter_context(raw(page, "127.0.0.2"))
        with suppress(ConnectionError):
            assert sixth.recv(1) == b""
        assert page.visitor().get("/login").status == 200
    monkeypatch.setattr("worker.web.server.MOST_OF_AN_ADDRESS", 256)
    with raw(page, "127.0.0.2") as again:
        again.sendall(f"GET /alive HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n\r\n".encode())
        assert again.recv(100).startswith(b"HTTP/1.1 204")


@pytest.fixture
def over_tls(desk: Ledger, tmp_path: Path) -> Iterator[Page]:
    file, key = certificate(tmp_path, "page")
    with running(desk, web_tls_certificate=str(file), web_tls_key=str(key)) as page:
        yield page


def status_over_tls(page: Page) -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", page.port, timeout=120, context=context)
    with closing(connection):
        connection.request("GET", "/login")
        return connection.getresponse().status


@pytest.mark.parametrize(
    "said", [b"", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\n\r\n"], ids=["silent", "begun", "plain"]
)
def test_a_client_that_agrees_on_no_tls_is_cut_off(
    over_tls: Page, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr("worker.web.handshake.HANDSHAKE_S", 0.3)
    with socket.create_connection(("127.0.0.1", over_tls.port), timeout=30) as silent:
        silent.sendall(said)
        with suppress(ConnectionError):
            while silent.recv(1000):
                pass
    monkeypatch.setattr("worker.web.handshake.HANDSHAKE_S", 60.0)
    assert status_over_tls(over_tls) == 200


def test_a_connection_over_tls_counts_before_its_handshake(over_tls: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.web.server.MOST_OF_AN_ADDRESS", 5)
    with ExitStack() as stack:
        silent = [stack.enter_context(raw(over_tls, "127.0.0.2")) for _ in range(5)]
        sixth = stack.enter_context(raw(over_tls, "127.0.0.2"))
        sixth.settimeout(40)  # asyncio's own handshake would end after 60 s
        with suppress(ConnectionError):
            assert sixth.recv(1) == b""
        assert silent[0].fileno() >= 0
        assert status_over_tls(over_tls) == 200, "another address"
    for _ in range(8):  # those that are gone have given their place back
        assert status_over_tls(over_tls) == 200


def test_more_than_64_requests_under_way_are_refused(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "WAIT_S", 150.0)  # no other refusal
    assert Guard(lambda *_: None, page.context).most_at_a_time == 64  # type: ignore[arg-type]
    began = [passwords.TURNS.acquire(timeout=60) for _ in range(2)]  # log-ins wait now
    statuses: list[int] = []
    visitor = page.visitor()
    visitor.csrf = visitor.get("/login").field("csrf")
    form = {"name": "nobody", "password": "wrong"}
    cookies = dict(visitor.cookies)

    def attempt() -> None:
        one = Visitor(page.port, cookies=dict(cookies), csrf=visitor.csrf)
        statuses.append(one.post("/login", form).status)

    threads = [threading.Thread(target=attempt) for _ in range(80)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: statuses.count(503) >= 80 - 64, 30)
    finally:
        for _ in began:
            passwords.TURNS.release()
        for thread in threads:
            thread.join(120)


PLANTED = "<script>alert('planted')</script>"


def test_markup_is_text_and_appears_in_no_log(page: Page, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    uid = "1.2<img src=x onerror=alert(1)>/../%2e"
    page.desk.receive(
        uid, content="<script>planted", path=f"/inbox/{PLANTED}.dcm", patient_id=PLANTED, accession_number=PLANTED,
        view=PLANTED, modality="DX", body_part=PLANTED, station_name=PLANTED, manufacturer=PLANTED,
        sop_instance_uid="1.2.3.4.5.6.7",
    )  # fmt: skip
    visitor = page.visitor("root", Role.ADMIN)
    found = re.search(r'href="(/study/~[^"]*)"', visitor.get("/").text)
    assert found is not None
    comment = {"outcome": "uncertain", "comment": PLANTED}
    form = visitor.get(found[1])
    fields = {name: form.field(name) for name in ("revision", "screening", "review")}
    assert visitor.post(f"{found[1]}/verdict", fields | comment).status == 303
    visitor.post("/search", {"words": PLANTED})
    visitor.get("/open?accession=PLANTED-IN-A-LINK")
    for path in ("/", found[1], "/audit", "/rows", "/quarantine"):
        text = visitor.get(path).text
        assert "<script>" not in text
        assert "<img src=x" not in text
    assert "planted" not in caplog.text.lower()
    assert "onerror" not in caplog.text


def test_a_fault_is_told_by_an_id_and_logged_without_a_word_of_the_request(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    visitor = page.visitor("ann")
    page.context.searches = None  # type: ignore[assignment]
    answer = visitor.post("/search", {"words": "DOE^JOHN"})
    assert answer.status == 500
    found = re.search(r"log is ([0-9a-f]{12})", answer.text)
    assert found is not None
    (record,) = [r for r in caplog.records if r.message == "request_failed"]
    assert vars(record)["id"] == found[1]
    assert "DOE" not in caplog.text + str(vars(record))


def test_what_databases_cannot_store_is_refused(page: Page) -> None:
    visitor = page.visitor("ann")
    assert visitor.post("/search", {"words": "a\0b"}).status == 400
    assert visitor.post(f"/study/{STUDY}/verdict", {"comment": "\0"}).status == 400
    assert visitor.get("/?scanner=%00").status == 400
    assert visitor.get("/study/~AAAA").status == 404


def test_behind_a_proxy_nobody_else_is_answered(page: Page) -> None:
    with running(page.desk, web_behind_proxy="10.1.1.1") as proxied:
        assert proxied.visitor().get("/login").status == 403


def test_a_header_that_came_twice_names_nobody(page: Page) -> None:
    page.account("ann")
    with running(page.desk, web_trusted_header="X-Remote-User", web_trusted_from="127.0.0.1") as near:
        head = f"GET /login HTTP/1.1\r\nHost: 127.0.0.1:{near.port}\r\nConnection: close\r\n"
        assert sent(near.port, f"{head}X-Remote-User: ann\r\n\r\n".encode()).startswith(b"HTTP/1.1 303")
        twice = f"{head}X-Remote-User: ann\r\nX-Remote-User: ben\r\n\r\n"
        assert sent(near.port, twice.encode()).startswith(b"HTTP/1.1 200")


def test_strangers_links_crowd_out_nobodys_search(page: Page) -> None:
    page.context.openings = Bounded(2)
    visitor = page.visitor("ann")
    kept = visitor.post("/search", {"words": "nobody has this"}).header("Location")
    for n in range(5):
        page.visitor().get(f"/open?accession={n}&again=1")
    assert "nobody has this" in visitor.get(kept).text
    assert page.context.openings.weight == 2


def test_the_audit_comes_before_the_deed_and_has_every_kind(page: Page) -> None:
    visitor = page.visitor("ann")
    page.visitor("ben")
    visitor.get(f"/study/{STUDY}")
    live = sessions.begin(page.desk.database, 2, "ben", "x", page.desk.clock())
    ben = sessions.find(page.desk.database, live, page.desk.clock())
    assert ben is not None
    holds.take_over(page.desk.database, 1, ben, page.desk.clock())
    visitor.post(f"/study/{STUDY}/priority", {"priority": "stat"})
    visitor.post("/logout")
    kinds = {(who, deed) for who, deed in deeds(page.desk)}
    assert {deed for who, deed in kinds if who == "ann"} >= {"logged_in", "shown", "prioritised", "logged_out"}
    assert ("ben", "hold_taken_over") in kinds


def test_what_cannot_be_recorded_is_not_shown_and_not_done(desk: Ledger) -> None:
    desk.receive()
    desk.screen(STUDY, 0.9)
    with running(desk, audit_reads=AuditReads.LISTS) as page:
        ann, ben, ada = page.visitor("ann"), page.visitor("ben"), page.visitor("ada", Role.ADMIN)
        kept = page.receive(dicom_file(np.zeros((8, 8), np.uint16), StudyInstanceUID="1.2.3.4"))
        token = accounts.make_token(desk.database, "ris", accounts.SCOPES, "me", desk.clock())
        ann.get(f"/study/{STUDY}")
        with desk.database.engine.begin() as connection:
            connection.execute(
                sa.text("CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END")
            )
        looks = (
            "/", "/quarantine", f"/study/{STUDY}", f"/study/{STUDY}/heat/{digest('one')}", f"/picture/{kept}/half"
        )  # fmt: skip
        for path in looks:
            answer = ben.get(path)
            assert answer.status == 500, path
            assert len(answer.body) < 1000, path
        for part in ("worklist", f"studies/{STUDY}", "health"):
            assert ben.get(f"/api/v1/{part}", Authorization=f"Bearer {token}").status == 500
        assert ben.post(f"/study/{STUDY}/take-over", {"from": "ann"}).status == 500
        assert ada.post(f"/study/{STUDY}/requeue").status == 500
        assert page.visitor().log_in("ben").status == 500
        with desk.database.reading() as connection:
            assert connection.execute(sa.text("SELECT holder FROM hold")).scalars().all() == ["ann"]
            assert connection.execute(sa.text("SELECT COUNT(*) FROM web_session")).scalar() == 3
        assert desk.entry(STUDY).state == "screened"


def test_no_route_changes_an_account() -> None:
    """That is done on the server alone."""
    assert not [route.path for route in PAGES if "user" in route.path or "account" in route.path]
