"""Numbers on the command line that no date and no clock can hold are refused with the range."""

import pytest
from click.testing import CliRunner

from worker.cli.main import app


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("worklist", "--limit", "99999999999999999999"), "1<=x<=1000000"),
        (("prune", "--older-than", "999999"), "1<=x<=36500"),
        (("screen", "--wait", "nan", "."), "'nan' is no number of seconds"),
        (("screen", "--wait", "inf", "."), "0<=x<=10000000"),
        (("screen", "--wait", "-1", "."), "0<=x<=10000000"),
    ],
)
def test_a_number_that_is_too_large_or_none_is_refused(words: tuple[str, ...], told: str) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2  # click's own; `main` turns it into 64
    assert told in done.output
