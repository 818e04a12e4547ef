"""The tree of errors is the one its docstring draws, and messages keep patients out of logs."""

import re
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages

import pytest

import worker
from worker import errors
from worker.errors import Interrupted, Misconfigured, Rejected, ScreeningError, Truncated, UnknownStudy

#: The leaves of the drawing: a name and a code, perhaps with a remark in parentheses.
DRAWN = dict(re.findall(r"[├└]── (\w+) +([a-z_]+)(?: +\(.*)?$", errors.__doc__ or "", re.MULTILINE))
ROOTS = {ScreeningError, Rejected, Interrupted, Misconfigured}


def below(root: type[ScreeningError]) -> Iterator[type[ScreeningError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from below(kind)


def test_the_docstring_draws_every_error_with_its_code() -> None:
    for module in walk_packages(worker.__path__, "worker."):  # an error defined elsewhere is seen too
        if not module.name.endswith("__main__"):
            import_module(module.name)
    assert {kind.__name__: kind.code for kind in below(ScreeningError) if kind not in ROOTS} == DRAWN


def test_codes_are_unique_and_fit_their_column() -> None:
    codes = [kind.code for kind in below(ScreeningError)]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]{1,64}", code) for code in codes)


def test_every_error_is_of_one_kind_and_says_what_it_is_for() -> None:
    for kind in below(ScreeningError):
        assert len({Rejected, Interrupted, Misconfigured} & set(kind.__mro__)) == 1, kind
        assert (kind.__doc__ or "").strip().endswith((".", ")")), kind


def test_the_closest_boundary_names_the_subject_and_the_message_leaves_it_out() -> None:
    error = UnknownStudy("no such study").about("1.2.3").about("somebody else")
    assert (str(error), error.message) == ("1.2.3: no such study", "no such study")
    assert str(UnknownStudy("no such study")) == "no such study"


def test_a_truncated_file_carries_its_header() -> None:
    assert Truncated("it ends early").instance is None
    assert Truncated("it ends early", "header").instance == "header"
    with pytest.raises(Rejected):
        raise Truncated("it ends early")
