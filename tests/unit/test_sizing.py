"""The page on sizes states figures as people read them, and needs that grow with the studies."""

import pytest

from deploy import sizing


@pytest.mark.parametrize(
    ("value", "told"), [(0, "0"), (0.0137, "0.014"), (0.96, "0.96"), (2.5, "2.5"), (88, "88"), (8800, "8,800")]
)
def test_a_figure_has_two_digits_that_count(value: float, told: str) -> None:
    assert sizing.figure(value) == told


@pytest.mark.parametrize(("count", "told"), [(0, "0 B"), (7240, "7.2 kB"), (16149770, "16 MB"), (1.4e15, "1.4 PB")])
def test_bytes_have_the_unit_that_suits(count: float, told: str) -> None:
    assert sizing.size(count) == told


def test_ten_times_the_studies_need_no_less() -> None:
    run, footprint, archive = map(sizing.read, ("throughput", "footprint", "archive"))
    costs = sizing.Costs(run, footprint, archive["sqlite"])
    one, ten = costs.at(1), costs.at(10)
    assert one.keys() == ten.keys()
    assert int(ten["cores, uncompressed"]) >= int(one["cores, uncompressed"]) >= 1
