"""Which output of a lung net counts as a lung field."""

import numpy as np
import pytest

from worker.inference.lung_field import FieldLimits, Lungs, implausible, traits_of

LIMITS = FieldLimits(area=(0.1, 0.5), paired=(0.6, 1.0), edge=(0.0, 0.2), certainty=(0.8, 1.0))


def chest(probability: float = 0.95) -> Lungs:
    """Two upright lungs, dark between."""
    lungs = np.zeros((112, 112), np.float32)
    lungs[20:90, 15:48] = lungs[20:90, 62:95] = probability
    return lungs


def test_two_lungs_side_by_side_are_a_lung_field() -> None:
    assert implausible(chest(), LIMITS) == ""
    traits = traits_of(chest())
    assert (traits.paired, traits.edge) == (1.0, 0.0)
    assert traits.certainty == pytest.approx(0.95)
    assert traits.area == pytest.approx(2 * 70 * 33 / 112**2)


@pytest.mark.parametrize(
    ("lungs", "trait"),
    [
        (np.zeros((112, 112), np.float32), "area"),
        (np.full((112, 112), np.nan, np.float32), "area"),
        (np.rot90(chest()), "paired"),
        (np.where(np.arange(112) < 55, chest(), 0), "paired"),
        (chest(0.6), "certainty"),
        (np.roll(np.roll(chest(), -20, axis=0), -15, axis=1), "edge"),
    ],
    ids=["nothing", "no number", "a quarter turn", "one lung", "uncertain", "cut off"],
)
def test_what_is_no_lung_field_is_named(lungs: Lungs, trait: str) -> None:
    assert implausible(np.asarray(lungs, np.float32), LIMITS).startswith(f"lung field {trait} ")


def test_specks_do_not_make_a_second_lung() -> None:
    lungs = np.where(np.arange(112) < 55, chest(), 0).astype(np.float32)
    lungs[:, 100] = 1.0
    assert traits_of(lungs).paired == 0.0


def test_each_row_is_looked_at_by_itself() -> None:
    """A lung that ends at the border of one row does not go on in the next one."""
    lungs = np.zeros((4, 100), np.float32)
    lungs[0, 60:] = lungs[1, :40] = 1.0  # one lung each, though one ends where the other begins
    lungs[2, :40] = lungs[2, 60:] = 1.0
    lungs[3, 30:31] = 1.0
    assert traits_of(lungs).paired == 1 / 4
