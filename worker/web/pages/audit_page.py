"""Who did what, for administrators."""

from datetime import timedelta

from starlette.responses import Response

from worker.ledger import audit
from worker.web import rendering
from worker.web.browser_request import BrowserRequest
from worker.web.page_context import PageContext

DAYS = 7
MOST = 500


def show(context: PageContext, asked: BrowserRequest) -> Response:
    """The newest entries of the last days; `worker audit` prints all."""
    entries = audit.trail(context.database, asked.now - timedelta(days=DAYS))
    return rendering.page("audit", entries=entries[: -MOST - 1 : -1], days=DAYS, most=MOST, **asked.page_values)
