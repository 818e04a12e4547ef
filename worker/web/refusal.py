"""A request that the page refuses, as an error with a status of HTTP."""

from http import HTTPStatus

from worker.errors import Misconfigured


class Refused(Misconfigured):
    """A refused request; nothing of it was stored. The message is shown to people, and quotes nothing of it."""

    code = "refused"

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
