"""Pages from Jinja2 templates, everything escaped. A variable that a template does not know is an error."""

import base64
import re
from collections.abc import Hashable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from worker.screening.ages import in_short
from worker.screening.remarks import remarks
from worker.web import wording

#: Rows of the list that are kept as HTML, two to three thousand bytes each.
ROWS_KEPT = 2048

TEMPLATES = Path(__file__).parent / "templates"

#: UIDs that can stand in a path as they are; all others, which break the Standard, go in base64.
PLAIN_UID = re.compile(r"[0-9][0-9.]{0,63}")


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """An HTML answer."""
    return HTMLResponse(html(template, **values), status_code=status)


def html(template: str, **values: Any) -> str:
    """A rendered template."""
    return environment().get_template(f"{template}.html.j2").render(**values)


@lru_cache(maxsize=ROWS_KEPT)
def as_row(row: Hashable, may_look: bool, hidden: str) -> Markup:
    """A row of the list as HTML. It is cached, because most rows of a poll are the same as in the answer before."""
    return Markup(html("row", row=row, may_look=may_look, hidden=hidden))


def page_values(request: Request, csrf: str = "", session: object = None) -> dict[str, Any]:
    """What every template needs; the theme and the switch of the keys are this browser's."""
    return {
        "csrf": csrf,
        "session": session,
        "theme": "dark" if request.cookies.get("theme") == "dark" else "light",
        "keys": request.cookies.get("keys") != "off",
    }


@cache
def environment() -> Environment:
    """The one environment, with the filters of the templates."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    made.globals["interval"] = wording.interval
    made.filters["as_row"] = as_row
    made.filters["study_path"] = study_path
    made.filters["in_words"] = wording.in_words
    made.filters["deed"] = wording.deed
    made.filters["detail"] = wording.detail
    made.filters["remarks"] = remarks
    made.filters["age"] = in_short
    made.filters["plain"] = wording.plain
    made.filters["day"] = wording.day
    made.filters["band_word"] = wording.band_word
    made.filters["band_shape"] = wording.band_shape
    made.filters["file_name"] = wording.file_name
    made.filters["shortened"] = wording.shortened
    made.filters["digest"] = wording.digest
    made.filters["moment"] = wording.moment
    made.filters["minute"] = wording.minute
    made.filters["show_words"] = wording.SHOWS.__getitem__
    made.filters["priority_word"] = wording.priority_word
    made.filters["without"] = wording.WITHOUT.__getitem__
    return made


def study_path(uid: str) -> str:
    """The path of a study. A UID is untrusted input: one that is no UID is encoded."""
    if PLAIN_UID.fullmatch(uid):
        return f"/study/{uid}"
    return "/study/~" + base64.urlsafe_b64encode(uid.encode()).decode().rstrip("=")


def uid_of(part: str) -> str:
    """The UID in a part of a path made by `study_path`; any other text gives a UID that no study has."""
    if not part.startswith("~"):
        return part
    try:
        uid = base64.urlsafe_b64decode(part[1:] + "=" * (-len(part[1:]) % 4)).decode()
        return "" if "\0" in uid else uid
    except ValueError:
        return ""
