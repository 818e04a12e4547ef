"""Codes of errors are stable and of one kind, and messages keep patients out of logs."""

import re
from collections.abc import Iterator

import pytest

from worker.errors import Interrupted, Misconfigured, Rejected, ScreeningError, Truncated, UnknownStudy


def below(root: type[ScreeningError]) -> Iterator[type[ScreeningError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from below(kind)


def test_codes_are_unique_and_fit_their_column() -> None:
    codes = [kind.code for kind in below(ScreeningError)]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]{1,64}", code) for code in codes)


def test_every_error_is_of_one_kind() -> None:
    """Who catches one decides by it whether to try again."""
    for kind in below(ScreeningError):
        assert len({Rejected, Interrupted, Misconfigured} & set(kind.__mro__)) == 1, kind


def test_the_closest_boundary_names_the_subject_and_the_message_leaves_it_out() -> None:
    error = UnknownStudy("no such study").about("1.2.3").about("somebody else")
    assert (str(error), error.message) == ("1.2.3: no such study", "no such study")
    assert str(UnknownStudy("no such study")) == "no such study"


def test_a_truncated_file_carries_its_header() -> None:
    assert Truncated("it ends early").instance is None
    assert Truncated("it ends early", "header").instance == "header"
    with pytest.raises(Rejected):
        raise Truncated("it ends early")
